"""A ScaledObject of KEDA: replicas by metrics and events that Kubernetes does not know by itself.

KEDA makes a HorizontalPodAutoscaler of it and gives it its metrics (https://keda.sh/docs/2.20/). From one
replica on, that autoscaler alone decides: a trigger's activation and the cooldown only concern scaling from
and to zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pulumi import ComponentResource, Input, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from app.roles import ADDED, REMOVED, Hours, Rate
from components.kubernetes.autoscaler import policies
from components.kubernetes.meta import labels, metadata

_API = "keda.sh/v1alpha1"
_AVERAGE = "AverageValue"
"""The autoscaler divides the value by the replicas: the value is that of all of them together."""
_PROTOCOL = "2.8.0"
"""Version of Kafka whose protocol the operator speaks."""
_KEPT_OFF = {"scaledobject.keda.sh/hpa-excluded-labels": "applyset.kubernetes.io/part-of"}
"""KEDA gives its autoscaler the labels of the ScaledObject. With that of an ApplySet it would count as a
member that nobody applies, and be pruned."""


@dataclass(frozen=True)
class UtilisationTrigger:
    """What pods use of their requests."""

    resource: str
    """`cpu` or `memory`."""
    percent: int
    """Average utilisation that is aimed at."""


@dataclass(frozen=True)
class PrometheusTrigger:
    """The result of a query."""

    name: str
    """Name of the trigger, unique in its ScaledObject."""
    server: str
    """Base URL of Prometheus."""
    query: str
    """PromQL with one value: that of all replicas together. No value is a lost metric, not a zero."""
    threshold: int
    """Value for each replica that is aimed at."""
    activation: int | None = None
    """Value from which on there is a first replica, where the minimum is 0."""


@dataclass(frozen=True)
class KafkaTrigger:
    """Messages that a consumer group is behind."""

    name: str
    """Name of the trigger, unique in its ScaledObject."""
    servers: Input[str]
    """`host:port` of brokers, separated by commas."""
    topic: str
    """Topic whose backlog counts; its partitions are the most replicas that the trigger asks for."""
    group: str
    """Consumer group."""
    messages: int
    """Messages behind for each replica."""
    region: str | None = None
    """Region of MSK brokers that are entered with the operator's AWS role over TLS; None for open ones."""


Trigger = UtilisationTrigger | PrometheusTrigger | KafkaTrigger | Hours


@dataclass(frozen=True)
class ScaledObjectArgs:
    """Bounds, triggers and pace of an autoscaler."""

    namespace: str
    """Namespace of the Deployment, whose name is the component's."""
    minimum: int
    """Lowest number of replicas, at least 1."""
    maximum: int
    """Highest number of replicas."""
    triggers: Sequence[Trigger]
    """At least one; the one that asks for the most replicas counts."""
    fallback_replicas: int
    """Least number of replicas while a metric is lost; there never are fewer than there were."""
    failures: int = 3
    """Failed queries after which a metric is lost (seed 000 section 5.2); the operator's and the autoscaler's
    queries both count."""
    added: Rate = ADDED
    """How replicas are added."""
    removed: Rate = REMOVED
    """How replicas are removed."""
    polling_seconds: int = 15
    """How often the operator queries (seed 000 section 5.2); the autoscaler asks every 15 s on its own."""
    cooldown_seconds: int = 300
    """Time without activity before the last replica goes, where the minimum is 0 (seed 000 section 5.2)."""


class ScaledObject(ComponentResource):
    """Scales the Deployment of the same name, through an autoscaler named `keda-hpa-<name>`."""

    def __init__(self, name: str, args: ScaledObjectArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:ScaledObject", name, None, opts)
        if not 1 <= args.minimum <= args.fallback_replicas <= args.maximum:
            raise ValueError(
                f"ScaledObject '{name}': minimum {args.minimum}, fallback {args.fallback_replicas} and "
                f"maximum {args.maximum} must rise, from 1 on"
            )
        needs = []
        if any(isinstance(trigger, KafkaTrigger) and trigger.region for trigger in args.triggers):
            needs.append(
                CustomResource(
                    f"{name}-brokers",
                    api_version=_API,
                    kind="TriggerAuthentication",
                    metadata=metadata(f"{name}-brokers", args.namespace, owner=name),
                    # Without a role named here it is the operator's own.
                    spec={"podIdentity": {"provider": "aws"}},
                    opts=ResourceOptions(parent=self),
                )
            )
        CustomResource(
            name,
            api_version=_API,
            kind="ScaledObject",
            metadata=ObjectMetaArgs(
                name=name, namespace=args.namespace, labels=labels(name), annotations=_KEPT_OFF
            ),
            spec={
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "minReplicaCount": args.minimum,
                "maxReplicaCount": args.maximum,
                "pollingInterval": args.polling_seconds,
                "cooldownPeriod": args.cooldown_seconds,
                "fallback": {
                    "failureThreshold": args.failures,
                    "replicas": args.fallback_replicas,
                    "behavior": "currentReplicasIfHigher",
                },
                "advanced": {
                    # restoreToOriginalReplicaCount is left out: replicas at work when the autoscaler goes are
                    # better than those of long ago. The operator drops a stated `False`: drift.
                    "horizontalPodAutoscalerConfig": {
                        "name": f"keda-hpa-{name}",
                        "behavior": {"scaleUp": _rules(args.added), "scaleDown": _rules(args.removed)},
                    },
                },
                "triggers": [_trigger(trigger, f"{name}-brokers") for trigger in args.triggers],
            },
            opts=ResourceOptions(parent=self, depends_on=needs),
        )
        self.register_outputs({})


def _rules(rate: Rate) -> dict[str, Any]:
    return {
        "stabilizationWindowSeconds": rate.window_seconds,
        "selectPolicy": "Max",
        "policies": [
            {"type": kind, "value": value, "periodSeconds": rate.period_seconds}
            for kind, value in policies(rate)
        ],
    }


def _trigger(trigger: Trigger, authentication: str) -> dict[str, Any]:
    match trigger:
        case UtilisationTrigger():
            return {
                "type": trigger.resource,
                "metricType": "Utilization",
                "metadata": {"value": str(trigger.percent)},
            }
        case PrometheusTrigger():
            activation = (
                {} if trigger.activation is None else {"activationThreshold": str(trigger.activation)}
            )
            return {
                "type": "prometheus",
                "name": trigger.name,
                "metricType": _AVERAGE,
                "metadata": {
                    "serverAddress": trigger.server,
                    "query": trigger.query,
                    "threshold": str(trigger.threshold),
                    # A lost metric must not look like an idle platform.
                    "ignoreNullValues": "false",
                    **activation,
                },
            }
        case KafkaTrigger():
            return _kafka(trigger, authentication)
        case Hours():
            return {
                "type": "cron",
                "metricType": _AVERAGE,
                "metadata": {
                    "timezone": trigger.time_zone,
                    "start": trigger.start,
                    "end": trigger.end,
                    "desiredReplicas": str(trigger.replicas),
                },
            }


def _kafka(trigger: KafkaTrigger, authentication: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "kafka",
        "name": trigger.name,
        "metricType": _AVERAGE,
        "metadata": {
            "bootstrapServers": trigger.servers,
            "topic": trigger.topic,
            "consumerGroup": trigger.group,
            "lagThreshold": str(trigger.messages),
            # The app's groups begin with the oldest message.
            "offsetResetPolicy": "earliest",
            # Its default, 1.0.0, speaks what brokers since 4.0 no longer understand (KIP-896).
            "version": _PROTOCOL,
        },
    }
    if trigger.region is not None:
        found["metadata"] |= {
            "sasl": "oauthbearer",
            "saslTokenProvider": "aws_msk_iam",
            "tls": "enable",
            "awsRegion": trigger.region,
        }
        found["authenticationRef"] = {"name": authentication, "kind": "TriggerAuthentication"}
    return found
