"""How a stack is doing, as `tradestack status` tells it."""

from typing import Any

from infra.plan.model import Plan, masked
from infra.render import applyset
from infra.render.kubectl import Kubectl, Target
from infra.render.workloads import observe


def status(plan: Plan, target: Target) -> dict[str, Any]:
    """Stack, readiness, addresses and every workload with its replicas, ready and desired."""
    snapshot = observe(plan, Kubectl(target))
    return {
        "stack": plan.stack,
        "ready": not snapshot.pending,
        "urls": masked(plan.outputs.get("urls", {})),
        "workloads": [
            {
                "name": workload.item.name,
                "namespace": workload.item.namespace,
                "kind": workload.item.kind,
                "ready": workload.ready,
                "desired": workload.desired,
            }
            for workload in snapshot.workloads
        ],
    }


def is_applied(plan: Plan, target: Target) -> bool:
    """Whether the cluster has the stack from `apply`, in whole or in part."""
    return applyset.exists(plan, Kubectl(target))
