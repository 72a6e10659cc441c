"""A HorizontalPodAutoscaler on CPU, with the pace at which replicas come and go."""

from dataclasses import dataclass

from pulumi import ComponentResource, ResourceOptions
from pulumi_kubernetes.autoscaling import v2 as autoscaling

from components.kubernetes.meta import metadata


@dataclass(frozen=True)
class AutoscalerArgs:
    """Bounds, target and pace of an autoscaler."""

    namespace: str
    """Namespace of the Deployment, whose name is the component's."""
    minimum: int
    """Lowest number of replicas, at least 1."""
    maximum: int
    """Highest number of replicas."""
    cpu_percent: int = 70
    """Average utilisation of the CPU request that is aimed at."""
    up_window_seconds: int = 60
    """How long a higher load must last."""
    down_window_seconds: int = 300
    """How long a lower load must last."""
    removed_per_minute: int | None = None
    """Replicas taken away in 60 s; None takes a quarter in 120 s."""


class Autoscaler(ComponentResource):
    """Scales the Deployment of the same name."""

    def __init__(self, name: str, args: AutoscalerArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:Autoscaler", name, None, opts)
        autoscaling.HorizontalPodAutoscaler(
            name,
            metadata=metadata(name, args.namespace),
            spec={
                "scale_target_ref": {"api_version": "apps/v1", "kind": "Deployment", "name": name},
                "min_replicas": args.minimum,
                "max_replicas": args.maximum,
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {
                            "name": "cpu",
                            "target": {"type": "Utilization", "average_utilization": args.cpu_percent},
                        },
                    }
                ],
                "behavior": {
                    "scale_up": {
                        "stabilization_window_seconds": args.up_window_seconds,
                        "select_policy": "Max",
                        "policies": [
                            {"type": "Percent", "value": 100, "period_seconds": 60},
                            {"type": "Pods", "value": 4, "period_seconds": 60},
                        ],
                    },
                    "scale_down": {
                        "stabilization_window_seconds": args.down_window_seconds,
                        "select_policy": "Max",
                        "policies": [_removal(args)],
                    },
                },
            },
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({})


def _removal(args: AutoscalerArgs) -> autoscaling.HPAScalingPolicyArgsDict:
    if args.removed_per_minute is not None:
        return {"type": "Pods", "value": args.removed_per_minute, "period_seconds": 60}
    return {"type": "Percent", "value": 25, "period_seconds": 120}
