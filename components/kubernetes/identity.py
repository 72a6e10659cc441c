"""The identity of a workload: its ServiceAccount, and rights only where it has rules."""

from collections.abc import Sequence

from pulumi import Resource, ResourceOptions
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.rbac import v1 as rbac

from components.kubernetes.meta import metadata


def make_identity(
    name: str, namespace: str, rules: Sequence[rbac.PolicyRuleArgsDict], *, parent: Resource
) -> ResourceOptions:
    """Create the ServiceAccount of `name`; with `rules`, a Role that grants them and its binding.

    Returns the options of the children of `parent` that make pods: without its account no pod can be made.
    """
    child = ResourceOptions(parent=parent)
    made: list[Resource] = [
        core.ServiceAccount(
            name, metadata=metadata(name, namespace), automount_service_account_token=False, opts=child
        )
    ]
    if rules:
        role = rbac.Role(name, metadata=metadata(name, namespace), rules=list(rules), opts=child)
        binding = rbac.RoleBinding(
            name,
            metadata=metadata(name, namespace),
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            subjects=[{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            opts=child,
        )
        made += [role, binding]
    return ResourceOptions(parent=parent, depends_on=made)
