"""The parent of a stack's ApplySet: one cluster-wide object that knows which objects the stack has.

It is of a kind of its own, because only a parent outside all namespaces may have members in several.
"""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from infra.errors import TradestackError
from infra.plan.model import Plan
from infra.process import CommandFailed
from infra.render.kubectl import Kubectl, as_list

_GROUP, _KIND, _PLURAL = "tradestack.internal", "Stack", "stacks"
_RESOURCE = f"{_PLURAL}.{_GROUP}"
_MANAGER = "kubectl-applyset"
_ID_LABEL = "applyset.kubernetes.io/id"
_MEMBER_LABEL = "applyset.kubernetes.io/part-of"
_KINDS_ANNOTATION = "applyset.kubernetes.io/contains-group-kinds"

_DEFINITION: Mapping[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": _RESOURCE, "labels": {"applyset.kubernetes.io/is-parent-type": "true"}},
    "spec": {
        "group": _GROUP,
        "names": {"kind": _KIND, "listKind": f"{_KIND}List", "plural": _PLURAL, "singular": "stack"},
        "scope": "Cluster",
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}


def name(plan: Plan) -> str:
    """Name of the parent."""
    return f"{plan.project}-{plan.stack}"


def flag(plan: Plan) -> str:
    """The parent as `kubectl apply --applyset` wants it."""
    return f"{_RESOURCE}/{name(plan)}"


def ensure(plan: Plan, kubectl: Kubectl) -> None:
    """Make the parent and its kind where they are missing; kubectl keeps the parent from then on."""
    if _parent(plan, kubectl) is not None:
        return
    kubectl("apply", "--server-side", f"--field-manager={_MANAGER}", "-f", "-", stdin=as_list([_DEFINITION]))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{_RESOURCE}")
    parent = {
        "apiVersion": f"{_GROUP}/v1",
        "kind": _KIND,
        "metadata": {
            "name": name(plan),
            "labels": {_ID_LABEL: _identity(name(plan))},
            "annotations": {"applyset.kubernetes.io/tooling": "kubectl/v1", _KINDS_ANNOTATION: ""},
        },
    }
    kubectl("apply", "--server-side", f"--field-manager={_MANAGER}", "-f", "-", stdin=as_list([parent]))


def labelled(plan: Plan, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """`manifest` with the label of a member."""
    metadata = manifest["metadata"]
    labels = {**metadata.get("labels", {}), _MEMBER_LABEL: _identity(name(plan))}
    return {**manifest, "metadata": {**metadata, "labels": labels}}


def members(plan: Plan, kubectl: Kubectl) -> list[dict[str, Any]]:
    """The objects that the stack has in the cluster; none where it never was applied."""
    parent = _parent(plan, kubectl)
    kinds = (parent or {}).get("metadata", {}).get("annotations", {}).get(_KINDS_ANNOTATION, "")
    if not kinds:
        return []
    return kubectl.list(kinds, "--all-namespaces", "-l", f"{_MEMBER_LABEL}={_identity(name(plan))}")


def remove(plan: Plan, kubectl: Kubectl) -> None:
    """Remove the parent, and its kind with the last one."""
    if _parent(plan, kubectl) is None:
        return
    kubectl("delete", _RESOURCE, name(plan), "--ignore-not-found")
    if not kubectl.list(_RESOURCE):
        kubectl("delete", "crd", _RESOURCE, "--ignore-not-found")


def _parent(plan: Plan, kubectl: Kubectl) -> dict[str, Any] | None:
    try:
        found = kubectl.list(_RESOURCE, name(plan))
    except CommandFailed as error:
        if "doesn't have a resource type" in error.output:
            return None
        raise TradestackError(f"the cluster does not answer: {error}") from error
    return found[0] if found else None


def _identity(parent: str) -> str:
    """Label value that marks the members, as the ApplySet specification builds it."""
    digest = hashlib.sha256(f"{parent}..{_KIND}.{_GROUP}".encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"
