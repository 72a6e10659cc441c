"""What the workloads of a plan are doing in the cluster, and why some of them are not ready."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.plan.model import Plan
from infra.process import CommandFailed
from infra.render.conditions import RULES, unmet
from infra.render.kubectl import Key, Kubectl, bare, key_of
from infra.render.objects import KubernetesObject, objects

WORKLOADS = ("Deployment", "StatefulSet", "Job")
"""Kinds with pods that are waited for; custom resources are, too, as `conditions` says."""

_NAME = "app.kubernetes.io/name"
OWNED = "app.kubernetes.io/part-of=tradestack"
"""Label selector of everything that belongs to the platform."""


@dataclass(frozen=True)
class Workload:
    """One workload of the plan as it is in the cluster."""

    item: KubernetesObject
    ready: int
    """Replicas that take work, of the newest template; for a Job, 1 once it is complete; for others, once it
    works."""
    desired: int
    settled: bool
    """Whether the cluster has nothing left to do for it."""
    failure: str | None
    """Why it can never become ready, in the cluster's words."""
    trouble: str | None
    """What keeps its pods from being made, in the cluster's words."""
    lacks: str = ""
    """What a custom resource still lacks, in its controller's words; may come by itself."""


@dataclass(frozen=True)
class Snapshot:
    """The cluster at one moment."""

    workloads: Sequence[Workload]
    pods: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
    """Pods by namespace and workload name; those of a custom resource, while it waits, by `kind/name`."""

    @property
    def pending(self) -> list[Workload]:
        """Workloads that are not ready yet."""
        return [workload for workload in self.workloads if not workload.settled]


def observe(plan: Plan, kubectl: Kubectl) -> Snapshot:
    """Look at the plan's workloads, their pods and its custom resources."""
    items = [item for item in objects(plan) if item.kind in WORKLOADS]
    customs = [item for item in objects(plan) if item.kind in RULES]
    live = kubectl.list("deployments,statefulsets,jobs,pods", "--all-namespaces", "-l", OWNED)
    by_key = {key_of(found): found for found in live}
    pods: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for (kind, namespace, _), found in by_key.items():
        if kind == "Pod":
            pods.setdefault((namespace, found["metadata"]["labels"].get(_NAME, "")), []).append(found)
    known = _existing(kubectl, customs)
    for item in customs:
        selector = RULES[item.kind].pods
        if selector is not None and item.key in known and unmet(known[item.key]):
            chosen = selector.format(name=item.name, namespace=item.namespace)
            pods[item.namespace or "", f"{item.kind}/{item.name}"] = [
                *kubectl.list("pods", "--all-namespaces", "-l", chosen)
            ]
    states = [*(_workload(item, by_key) for item in items), *(_custom(item, known) for item in customs)]
    return Snapshot(workloads=states, pods=pods)


def pods_of(workload: Workload, snapshot: Snapshot) -> Sequence[Mapping[str, Any]]:
    """Pods of a workload, ended ones included."""
    item = workload.item
    if item.kind not in WORKLOADS:
        return snapshot.pods.get((item.namespace or "", f"{item.kind}/{item.name}"), ())
    labels = item.manifest["spec"]["template"]["metadata"]["labels"]
    return snapshot.pods.get((item.namespace or "", labels[_NAME]), ())


def _existing(kubectl: Kubectl, items: Sequence[KubernetesObject]) -> Mapping[Key, Mapping[str, Any]]:
    try:
        return kubectl.existing([bare(item.manifest) for item in items]) if items else {}
    except CommandFailed as error:
        if "no matches for kind" in error.output:
            return {}
        raise


def _custom(item: KubernetesObject, live: Mapping[Key, Mapping[str, Any]]) -> Workload:
    found = live.get(item.key)
    lacks = unmet(found) if found else "it does not exist"
    return Workload(
        item, ready=int(not lacks), desired=1, settled=not lacks, failure=None, trouble=None, lacks=lacks
    )


def _workload(item: KubernetesObject, live: Mapping[Key, Mapping[str, Any]]) -> Workload:
    found = live.get(item.key)
    if found is None:
        wanted = item.manifest["spec"].get("replicas", 1)
        return Workload(
            item, ready=0, desired=wanted, settled=False, failure=None, trouble="it does not exist"
        )
    status = found.get("status", {})
    if item.kind == "Job":
        return _job(item, status)
    desired = int(found["spec"].get("replicas", 1))
    seen = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
    updated = int(status.get("updatedReplicas", 0))
    ready = int(status.get("readyReplicas", 0))
    settled = seen and updated == desired and ready == desired and int(status.get("replicas", 0)) == desired
    if item.kind == "StatefulSet":
        settled = settled and status.get("currentRevision") == status.get("updateRevision")
    trouble = _condition(status, "ReplicaFailure", "True")
    return Workload(
        item, ready=min(ready, updated), desired=desired, settled=settled, failure=None, trouble=trouble
    )


def _job(item: KubernetesObject, status: Mapping[str, Any]) -> Workload:
    complete = _condition(status, "Complete", "True") is not None
    failure = _condition(status, "Failed", "True")
    return Workload(item, ready=int(complete), desired=1, settled=complete, failure=failure, trouble=None)


def _condition(status: Mapping[str, Any], kind: str, value: str) -> str | None:
    """Message of a condition that has this status, or None."""
    for condition in status.get("conditions", ()):
        if condition["type"] == kind and condition["status"] == value:
            return str(condition.get("message") or condition.get("reason") or kind)
    return None
