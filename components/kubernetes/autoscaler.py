"""A HorizontalPodAutoscaler on what Kubernetes itself knows: the processors and the memory of pods."""

from collections.abc import Iterator
from dataclasses import dataclass

from pulumi import ComponentResource, ResourceOptions
from pulumi_kubernetes.autoscaling import v2 as autoscaling

from app.roles import ADDED, REMOVED, Rate
from components.kubernetes.meta import metadata


@dataclass(frozen=True)
class AutoscalerArgs:
    """Bounds, targets and pace of an autoscaler."""

    namespace: str
    """Namespace of the Deployment, whose name is the component's."""
    minimum: int
    """Lowest number of replicas, at least 1."""
    maximum: int
    """Highest number of replicas."""
    cpu_percent: int = 70
    """Average utilisation of the CPU request that is aimed at."""
    memory_percent: int | None = None
    """Average utilisation of the memory request that is aimed at; None does not look at it."""
    added: Rate = ADDED
    """How replicas are added."""
    removed: Rate = REMOVED
    """How replicas are removed."""


class Autoscaler(ComponentResource):
    """Scales the Deployment of the same name."""

    def __init__(self, name: str, args: AutoscalerArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:Autoscaler", name, None, opts)
        targets = {"cpu": args.cpu_percent, "memory": args.memory_percent}
        autoscaling.HorizontalPodAutoscaler(
            name,
            metadata=metadata(name, args.namespace),
            spec={
                "scale_target_ref": {"api_version": "apps/v1", "kind": "Deployment", "name": name},
                "min_replicas": args.minimum,
                "max_replicas": args.maximum,
                "metrics": [
                    _utilisation(resource, percent)
                    for resource, percent in targets.items()
                    if percent is not None
                ],
                "behavior": {"scale_up": _rules(args.added), "scale_down": _rules(args.removed)},
            },
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({})


def _utilisation(resource: str, percent: int) -> autoscaling.MetricSpecArgsDict:
    target: autoscaling.MetricTargetArgsDict = {"type": "Utilization", "average_utilization": percent}
    return {"type": "Resource", "resource": {"name": resource, "target": target}}


def _rules(rate: Rate) -> autoscaling.HPAScalingRulesArgsDict:
    return {
        "stabilization_window_seconds": rate.window_seconds,
        "select_policy": "Max",
        "policies": [
            {"type": kind, "value": value, "period_seconds": rate.period_seconds}
            for kind, value in policies(rate)
        ],
    }


def policies(rate: Rate) -> Iterator[tuple[str, int]]:
    """Kind and amount of each scaling policy that makes up `rate`.

    Raises:
        ValueError: it has neither a percentage nor a number of pods, so that nothing would ever change.
    """
    if rate.percent is None and rate.pods is None:
        raise ValueError(f"{rate}: a percentage, a number of pods, or both")
    if rate.percent is not None:
        yield "Percent", rate.percent
    if rate.pods is not None:
        yield "Pods", rate.pods
