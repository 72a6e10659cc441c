"""Remove what applies of a plan made, and nothing else."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from infra.errors import TradestackError
from infra.plan.model import Plan
from infra.progress import Step, Steps
from infra.render import applyset
from infra.render.apply import ApplyResult, Change
from infra.render.kubectl import Kubectl, Target, as_list, bare, text_of
from infra.render.objects import objects
from infra.render.workloads import OWNED

_STARTS_PODS = frozenset(
    {
        "Alertmanager",
        "CronJob",
        "Deployment",
        "Gateway",
        "HorizontalPodAutoscaler",
        "Job",
        "Prometheus",
        "ScaledObject",
        "StatefulSet",
    }
)
_PROXIES = "gateway.envoyproxy.io/owning-gateway-namespace"
"""Label of the pods that Envoy Gateway makes in a namespace of its own: where their Gateway is."""
_TIMEOUT_SECONDS = 180
_POLL_SECONDS = 1.0

Reference = Mapping[str, Any]
"""Version, kind, name and namespace of an object in the cluster."""


def delete(plan: Plan, target: Target, steps: Steps, *, volumes: bool) -> ApplyResult:
    """Remove every member of the plan's ApplySet and wait until it is gone.

    Without `volumes`, what holds data stays: volume claims, their namespaces, and these namespaces' Secrets,
    without whose passwords the data could not be opened again.

    Raises:
        TradestackError: something is still there after three minutes.
    """
    kubectl = Kubectl(target)
    with steps.step("Remove the stack's objects", estimate_s=30) as step:
        members = _members(plan, kubectl)
        namespaces = _namespaces(members)
        claims = _claims(kubectl, namespaces)
        with_data = set() if volumes else {str(claim["metadata"]["namespace"]) for claim in claims}
        doomed = [member for member in members if not _holds_data(member, with_data)]
        _delete(kubectl, doomed, step)
        gone = {str(claim["spec"].get("volumeName")) for claim in claims} if volumes else set()
        _wait_gone(kubectl, namespaces, gone, step)
        if not with_data:
            applyset.remove(plan, kubectl)
    return ApplyResult(tuple(Change(text_of(member), "pruned") for member in doomed))


def holds_data(plan: Plan, target: Target) -> bool:
    """Whether the stack has volumes in the cluster, whoever applied it."""
    kubectl = Kubectl(target)
    planned = [item.name for item in objects(plan) if item.kind == "Namespace"]
    return bool(_claims(kubectl, [*planned, *_namespaces(_members(plan, kubectl))]))


def _members(plan: Plan, kubectl: Kubectl) -> list[Reference]:
    return [bare(item) for item in applyset.members(plan, kubectl)]


def _namespaces(members: Iterable[Reference]) -> list[str]:
    return [str(member["metadata"]["name"]) for member in members if member["kind"] == "Namespace"]


def _claims(kubectl: Kubectl, namespaces: Iterable[str]) -> list[dict[str, Any]]:
    ours = set(namespaces)
    found = kubectl.list("persistentvolumeclaims", "--all-namespaces") if ours else []
    return [claim for claim in found if claim["metadata"]["namespace"] in ours]


def _holds_data(member: Reference, with_data: set[str]) -> bool:
    metadata = member["metadata"]
    if member["kind"] == "Namespace":
        return metadata["name"] in with_data
    return member["kind"] == "Secret" and metadata["namespace"] in with_data


def _delete(kubectl: Kubectl, doomed: Sequence[Reference], step: Step) -> None:
    """Workloads first, then what their pods stand on, then namespaces; each group is gone before the next."""
    workloads = [member for member in doomed if member["kind"] in _STARTS_PODS]
    namespaces = [member for member in doomed if member["kind"] == "Namespace"]
    rest = [member for member in doomed if member["kind"] not in _STARTS_PODS | {"Namespace"}]
    for group in (workloads, rest, namespaces):
        if not group:
            continue
        step.detail(
            f"removing {len(group)} objects: {', '.join(sorted({str(item['kind']) for item in group}))}"
        )
        kubectl(
            "delete",
            "--ignore-not-found",
            "--cascade=foreground",
            f"--timeout={_TIMEOUT_SECONDS}s",
            "-f",
            "-",
            stdin=as_list(group),
            timeout=_TIMEOUT_SECONDS + 30,
        )


def _wait_gone(kubectl: Kubectl, namespaces: Sequence[str], volumes: set[str], step: Step) -> None:
    """Wait for pods that end slowly, and for volumes that their provisioner takes down.

    Raises:
        TradestackError: something is still there when the time is up; it is named.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        pods = kubectl.list("pods", "--all-namespaces", "-l", OWNED)
        left = [f"pod {_name(pod)}" for pod in pods if pod["metadata"]["namespace"] in namespaces]
        proxies = kubectl.list("pods", "--all-namespaces", "-l", _PROXIES)
        left += [f"pod {_name(pod)}" for pod in proxies if pod["metadata"]["labels"][_PROXIES] in namespaces]
        if volumes:
            found = kubectl.list("persistentvolumes")
            left += [f"volume {_name(volume)}" for volume in found if _name(volume) in volumes]
        if not left:
            return
        if time.monotonic() > deadline:
            raise TradestackError(f"still there after {_TIMEOUT_SECONDS} s: {', '.join(left)}")
        step.detail(f"waiting for {', '.join(left)}")
        time.sleep(_POLL_SECONDS)


def _name(item: Mapping[str, Any]) -> str:
    return str(item["metadata"]["name"])
