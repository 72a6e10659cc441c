"""What the workloads of a plan are doing in the cluster, and why some of them are not ready."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.plan.model import Plan
from infra.render.kubectl import Key, Kubectl, key_of
from infra.render.objects import KubernetesObject, objects

WORKLOADS = ("Deployment", "StatefulSet", "Job", "Gateway")
"""Kinds that are waited for; of a Gateway, that its controller serves it."""

_NAME = "app.kubernetes.io/name"
OWNED = "app.kubernetes.io/part-of=tradestack"
"""Label selector of everything that belongs to the platform."""


@dataclass(frozen=True)
class Workload:
    """One workload of the plan as it is in the cluster."""

    item: KubernetesObject
    ready: int
    """Replicas that take work, of the newest template; 1 for a Job that is complete and a Gateway that is
    served."""
    desired: int
    settled: bool
    """Whether the cluster has nothing left to do for it."""
    failure: str | None
    """Why it can never become ready, in the cluster's words."""
    trouble: str | None
    """What keeps its pods from being made, in the cluster's words."""


@dataclass(frozen=True)
class Snapshot:
    """The cluster at one moment."""

    workloads: Sequence[Workload]
    pods: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
    """Pods by namespace and workload name."""

    @property
    def pending(self) -> list[Workload]:
        """Workloads that are not ready yet."""
        return [workload for workload in self.workloads if not workload.settled]


def observe(plan: Plan, kubectl: Kubectl) -> Snapshot:
    """Look at the plan's workloads and their pods."""
    items = [item for item in objects(plan) if item.kind in WORKLOADS]
    kinds = "deployments,statefulsets,jobs,pods"
    if any(item.kind == "Gateway" for item in items):
        # A cluster without its definition does not know the word.
        kinds += ",gateways.gateway.networking.k8s.io"
    live = kubectl.list(kinds, "--all-namespaces", "-l", OWNED)
    by_key = {key_of(found): found for found in live}
    pods: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for (kind, namespace, _), found in by_key.items():
        if kind == "Pod":
            pods.setdefault((namespace, found["metadata"]["labels"].get(_NAME, "")), []).append(found)
    return Snapshot(workloads=[_workload(item, by_key) for item in items], pods=pods)


def pods_of(workload: Workload, snapshot: Snapshot) -> Sequence[Mapping[str, Any]]:
    """Pods of a workload, ended ones included."""
    if workload.item.kind == "Gateway":
        # Its controller's business, in the controller's namespace.
        return ()
    labels = workload.item.manifest["spec"]["template"]["metadata"]["labels"]
    return snapshot.pods.get((workload.item.namespace or "", labels[_NAME]), ())


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
    if item.kind == "Gateway":
        return _gateway(item, status, found["metadata"]["generation"])
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


def _gateway(item: KubernetesObject, status: Mapping[str, Any], generation: int) -> Workload:
    served = any(
        condition["type"] == "Programmed"
        and condition["status"] == "True"
        and condition.get("observedGeneration", 0) >= generation
        for condition in status.get("conditions", ())
    )
    # It says so while its first pod starts, too: no trouble that would end the wait early.
    return Workload(item, ready=int(served), desired=1, settled=served, failure=None, trouble=None)


def _condition(status: Mapping[str, Any], kind: str, value: str) -> str | None:
    """Message of a condition that has this status, or None."""
    for condition in status.get("conditions", ()):
        if condition["type"] == kind and condition["status"] == value:
            return str(condition.get("message") or condition.get("reason") or kind)
    return None
