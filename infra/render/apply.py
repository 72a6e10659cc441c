"""Apply a plan to a cluster: server-side apply in one go, with an ApplySet that knows what to prune."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from infra.errors import TradestackError
from infra.plan.model import Plan
from infra.process import CommandFailed
from infra.progress import Steps
from infra.render import applyset, passwords
from infra.render.kubectl import FIELD_MANAGER, Key, Kubectl, Target, as_list, key_of, text_of
from infra.render.objects import KubernetesObject, objects

Action = Literal["created", "configured", "unchanged", "pruned"]

_SERVER_SIDE = ("apply", "--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}")
_APPLY_SECONDS = 300
_INVALID = re.compile(
    r'The (\w+) "([^"]+)" is invalid: .*?(?:field is immutable|updates to statefulset spec)', re.DOTALL
)
_REPLACEABLE: Mapping[str, tuple[str, ...]] = {
    "Job": (),
    # Its pods and volumes stay; the new StatefulSet takes them over.
    "StatefulSet": ("--cascade=orphan",),
}
"""Kinds that may be deleted and made again when an immutable field changes, with kubectl's options."""


@dataclass(frozen=True)
class Change:
    """What became of one object."""

    object: str
    """Such as `Deployment gateway in trading-system`."""
    action: Action


@dataclass(frozen=True)
class ApplyResult:
    """What an apply did."""

    changes: tuple[Change, ...]
    """Every object of the plan, then what was pruned."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of objects by action."""
        return dict(Counter(change.action for change in self.changes))

    @property
    def changed(self) -> int:
        """Number of objects that are not as they were."""
        return sum(change.action != "unchanged" for change in self.changes)


def apply(plan: Plan, target: Target, steps: Steps) -> ApplyResult:
    """Make the cluster hold exactly the plan's objects; what earlier applies made and the plan lacks goes.

    Generated passwords are read back from the cluster, so that applying again rotates nothing.

    Raises:
        TradestackError: the cluster refused something.
    """
    kubectl, items = Kubectl(target), objects(plan)
    with steps.step("Apply the plan", estimate_s=10) as step:
        step.detail("comparing with the cluster")
        before = kubectl.existing([_bare(item) for item in items])
        values = passwords.resolve(plan, items, before)
        manifests = [passwords.filled(item, values) for item in items]
        if _is_applied(plan, kubectl, manifests, before):
            return ApplyResult(tuple(Change(str(item), "unchanged") for item in items))
        step.detail(f"{len(manifests)} objects")
        applyset.ensure(plan, kubectl)
        applyset.remember(plan, kubectl, manifests, also_known=True)
        _apply(kubectl, [applyset.labelled(plan, manifest) for manifest in manifests])
        wanted = {key_of(manifest) for manifest in manifests}
        stale = [item for item in applyset.members(plan, kubectl) if key_of(item) not in wanted]
        applyset.prune(kubectl, stale)
        applyset.remember(plan, kubectl, manifests, also_known=False)
        after = kubectl.existing([_bare(item) for item in items])
    changes = [Change(str(item), _action(item.key, before, after)) for item in items]
    changes += [Change(text_of(item), "pruned") for item in stale]
    return ApplyResult(tuple(changes))


def _is_applied(
    plan: Plan, kubectl: Kubectl, manifests: Sequence[Mapping[str, Any]], before: Mapping[Key, Any]
) -> bool:
    """Whether an apply would change and prune nothing; asked of the API server by a dry run."""
    wanted = {key_of(manifest) for manifest in manifests}
    if before.keys() != wanted or {key_of(item) for item in applyset.members(plan, kubectl)} != wanted:
        return False
    labelled = as_list([applyset.labelled(plan, manifest) for manifest in manifests])
    try:
        output = kubectl(*_SERVER_SIDE, "--dry-run=server", "-o", "json", "-f", "-", stdin=labelled)
    except CommandFailed:
        # What it refuses is dealt with, or reported, when it is really applied.
        return False
    outcome = {key_of(item): item for item in json.loads(output)["items"]}
    return all(_wanted(before[key]) == _wanted(outcome[key]) for key in wanted)


def _bare(item: KubernetesObject) -> dict[str, Any]:
    return {key: item.manifest[key] for key in ("apiVersion", "kind", "metadata")}


def _apply(kubectl: Kubectl, manifests: Sequence[Mapping[str, Any]]) -> None:
    def attempt() -> None:
        kubectl(*_SERVER_SIDE, "-f", "-", stdin=as_list(manifests), timeout=_APPLY_SECONDS)

    try:
        attempt()
    except CommandFailed as error:
        by_name = {(kind, object_name): namespace for kind, namespace, object_name in map(key_of, manifests)}
        refused = [found for found in _INVALID.findall(error.output) if found in by_name]
        if not refused or any(kind not in _REPLACEABLE for kind, _ in refused):
            raise TradestackError(f"the cluster refused the plan: {error}") from error
        for kind, object_name in refused:
            place = f"--namespace={by_name[kind, object_name]}"
            kubectl("delete", kind.lower(), object_name, place, *_REPLACEABLE[kind])
        attempt()


def _action(key: Key, before: Mapping[Key, Any], after: Mapping[Key, Any]) -> Action:
    if key not in before:
        return "created"
    if before[key]["metadata"]["uid"] != after[key]["metadata"]["uid"]:
        return "configured"
    return "unchanged" if _wanted(before[key]) == _wanted(after[key]) else "configured"


def _wanted(live: Mapping[str, Any]) -> dict[str, Any]:
    """An object without what controllers write into it at any time."""
    metadata = {
        key: value
        for key, value in live["metadata"].items()
        if key not in {"resourceVersion", "managedFields", "generation"}
    }
    return {**{key: value for key, value in live.items() if key != "status"}, "metadata": metadata}
