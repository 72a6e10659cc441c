"""How many pods of a workload a node drain may take at once."""

from pulumi import Resource, ResourceOptions
from pulumi_kubernetes.policy import v1 as policy

from components.kubernetes.meta import metadata, selector


def make_disruption_budget(name: str, namespace: str, *, parent: Resource) -> None:
    """Let one pod at a time be evicted; pods that are not healthy never block a drain."""
    policy.PodDisruptionBudget(
        name,
        metadata=metadata(name, namespace),
        spec={
            "max_unavailable": 1,
            "unhealthy_pod_eviction_policy": "AlwaysAllow",
            "selector": {"match_labels": selector(name)},
        },
        opts=ResourceOptions(parent=parent),
    )
