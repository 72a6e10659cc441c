"""The parent of a stack's ApplySet: one cluster-wide object that knows which objects the stack has.

It is of a kind of its own, because only a parent outside all namespaces may have members in several.
Pruning is done here and not by kubectl: some controllers give the labels of their resources to what they make
from them, so that it looks like a member.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from infra.errors import TradestackError
from infra.plan.model import Plan
from infra.process import CommandFailed
from infra.render.kubectl import Kubectl, as_list, bare

_GROUP, _KIND, _PLURAL = "tradestack.internal", "Stack", "stacks"
_RESOURCE = f"{_PLURAL}.{_GROUP}"
_MANAGER = "kubectl-applyset"
_ID_LABEL = "applyset.kubernetes.io/id"
_MEMBER_LABEL = "applyset.kubernetes.io/part-of"
_KINDS_ANNOTATION = "applyset.kubernetes.io/contains-group-kinds"
_NO_KIND = "doesn't have a resource type"
"""What kubectl says of a kind that the cluster does not know."""

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


def exists(plan: Plan, kubectl: Kubectl) -> bool:
    """Whether the parent is there: from the first apply to the end of a complete removal."""
    return _parent(plan, kubectl) is not None


def ensure(plan: Plan, kubectl: Kubectl) -> None:
    """Make the parent and its kind where they are missing."""
    if exists(plan, kubectl):
        return
    kubectl("apply", "--server-side", f"--field-manager={_MANAGER}", "-f", "-", stdin=as_list([_DEFINITION]))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{_RESOURCE}")
    _write_parent(plan, kubectl, set())


def remember(
    plan: Plan, kubectl: Kubectl, manifests: Iterable[Mapping[str, Any]], *, also_known: bool
) -> None:
    """Write into the parent of which kinds the members are; with `also_known` those of before count, too.

    To be called before objects are applied, so that they are found again whatever happens then.
    """
    before = _kinds(_parent(plan, kubectl))
    after = {_kind(manifest) for manifest in manifests} | (before if also_known else set())
    if after != before:
        _write_parent(plan, kubectl, after)


def labelled(plan: Plan, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """`manifest` with the label of a member."""
    metadata = manifest["metadata"]
    labels = {**metadata.get("labels", {}), _MEMBER_LABEL: _identity(name(plan))}
    return {**manifest, "metadata": {**metadata, "labels": labels}}


def members(plan: Plan, kubectl: Kubectl) -> list[dict[str, Any]]:
    """The objects that the stack has in the cluster; none where it never was applied."""
    kinds = sorted(_kinds(_parent(plan, kubectl)))
    selector = ("--all-namespaces", "-l", f"{_MEMBER_LABEL}={_identity(name(plan))}")
    return [item for item in _of_kinds(kubectl, kinds, selector) if not _controlled(item)]


def prune(kubectl: Kubectl, stale: Sequence[Mapping[str, Any]]) -> None:
    """Remove members that the plan no longer has."""
    if stale:
        kubectl(
            "delete",
            "--ignore-not-found",
            "--wait=false",
            "-f",
            "-",
            stdin=as_list([bare(item) for item in stale]),
        )


def remove(plan: Plan, kubectl: Kubectl) -> None:
    """Remove the parent, and its kind with the last one."""
    if not exists(plan, kubectl):
        return
    kubectl("delete", _RESOURCE, name(plan), "--ignore-not-found")
    if not kubectl.list(_RESOURCE):
        kubectl("delete", "crd", _RESOURCE, "--ignore-not-found")


def _of_kinds(kubectl: Kubectl, kinds: Sequence[str], selector: Sequence[str]) -> list[dict[str, Any]]:
    """Objects of these kinds; a kind that the cluster no longer has went with its objects."""
    if not kinds:
        return []
    try:
        return kubectl.list(",".join(kinds), *selector)
    except CommandFailed as error:
        if _NO_KIND not in error.output:
            raise
    if len(kinds) == 1:
        return []
    return [item for kind in kinds for item in _of_kinds(kubectl, [kind], selector)]


def _parent(plan: Plan, kubectl: Kubectl) -> dict[str, Any] | None:
    try:
        found = kubectl.list(_RESOURCE, name(plan))
    except CommandFailed as error:
        if _NO_KIND in error.output:
            return None
        raise TradestackError(f"the cluster does not answer: {error}") from error
    return found[0] if found else None


def _write_parent(plan: Plan, kubectl: Kubectl, kinds: set[str]) -> None:
    parent = {
        "apiVersion": f"{_GROUP}/v1",
        "kind": _KIND,
        "metadata": {
            "name": name(plan),
            "labels": {_ID_LABEL: _identity(name(plan))},
            "annotations": {
                "applyset.kubernetes.io/tooling": "kubectl/v1",
                _KINDS_ANNOTATION: ",".join(sorted(kinds)),
            },
        },
    }
    kubectl("apply", "--server-side", f"--field-manager={_MANAGER}", "-f", "-", stdin=as_list([parent]))


def _kinds(parent: Mapping[str, Any] | None) -> set[str]:
    text = (parent or {}).get("metadata", {}).get("annotations", {}).get(_KINDS_ANNOTATION, "")
    return set(filter(None, text.split(",")))


def _kind(manifest: Mapping[str, Any]) -> str:
    """Kind and group as the specification writes them, such as `Deployment.apps`."""
    group = str(manifest["apiVersion"]).rpartition("/")[0]
    return f"{manifest['kind']}.{group}" if group else str(manifest["kind"])


def _controlled(item: Mapping[str, Any]) -> bool:
    return any(owner.get("controller") for owner in item["metadata"].get("ownerReferences", ()))


def _identity(parent: str) -> str:
    """Label value that marks the members, as the ApplySet specification builds it."""
    digest = hashlib.sha256(f"{parent}..{_KIND}.{_GROUP}".encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"
