"""Autoscalers: every figure of the requirements, for the roles that exist and for those that may come."""

from collections.abc import Callable
from typing import Any

import pytest

from app.roles import ROLES, Hours, Lag, Rate, Role, Scaling
from components.kubernetes.autoscaler import Autoscaler, AutoscalerArgs
from components.kubernetes.monitoring.scrapes import service_monitor
from components.kubernetes.scaled_object import (
    KafkaTrigger,
    PrometheusTrigger,
    ScaledObject,
    ScaledObjectArgs,
    UtilisationTrigger,
)
from infra.settings import parse
from stacks import monitoring
from stacks.scaling import Brokers, scaler

Record = Callable[[Callable[[], object]], Any]
BROKERS = Brokers("kafka.trading-data.svc.cluster.local:9092")
MSK = Brokers("b-1.kafka:9098,b-2.kafka:9098", region="us-east-1")
PROMETHEUS = "http://prometheus.trading-monitoring.svc.cluster.local:9090"
ADDED = {
    "stabilizationWindowSeconds": 60,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Percent", "value": 100, "periodSeconds": 60},
        {"type": "Pods", "value": 4, "periodSeconds": 60},
    ],
}
REMOVED = {
    "stabilizationWindowSeconds": 300,
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 25, "periodSeconds": 120}],
}
ONE_BY_ONE = {**REMOVED, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}


def role(name: str) -> Role:
    """A role of the table with its autoscaler."""
    return ROLES[name]


def of(record: Record, name: str, brokers: Brokers = BROKERS) -> dict[str, Any]:
    """The autoscaler's spec of a role as the role table has it."""
    scaling = role(name).scaling
    assert scaling is not None
    return of_scaling(record, name, scaling, brokers)


def of_scaling(record: Record, name: str, scaling: Scaling, brokers: Brokers = BROKERS) -> dict[str, Any]:
    args = scaler(role(name), scaling, brokers)
    if isinstance(args, AutoscalerArgs):
        made = record(lambda: Autoscaler(name, args)).one("HorizontalPodAutoscaler", name)
    else:
        made = record(lambda: ScaledObject(name, args)).one("ScaledObject", name)
    spec: dict[str, Any] = made["spec"]
    return spec


def behavior(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    return found


def trigger(spec: dict[str, Any], name: str) -> dict[str, Any]:
    """The only trigger of this name, or of this type where it has no name."""
    (found,) = [item for item in spec["triggers"] if item.get("name", item["type"]) == name]
    result: dict[str, Any] = found
    return result


def utilisation(resource: str, percent: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": resource, "target": target}}


@pytest.mark.parametrize(
    ("name", "bounds", "metrics"),
    [
        ("gateway", (3, 10), [utilisation("cpu", 70), utilisation("memory", 80)]),
        ("frontend", (2, 10), [utilisation("cpu", 70), utilisation("memory", 80)]),
        ("auth", (2, 6), [utilisation("cpu", 70)]),
    ],
)
def test_roles_that_scale_by_what_their_pods_use(
    record: Record, name: str, bounds: tuple[int, int], metrics: list[Any]
) -> None:
    spec = of(record, name)
    assert (spec["minReplicas"], spec["maxReplicas"]) == bounds
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    assert spec["metrics"] == metrics
    assert spec["behavior"] == {"scaleUp": ADDED, "scaleDown": REMOVED}


def test_price_service_scales_by_connections_backlog_and_processors(record: Record) -> None:
    spec = of(record, "price-service")
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 20)
    assert (spec["pollingInterval"], spec["cooldownPeriod"]) == (15, 300)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "price-service"}
    assert spec["fallback"] == {
        "failureThreshold": 3,
        "replicas": 5,
        "behavior": "currentReplicasIfHigher",
    }
    assert trigger(spec, "connections") == {
        "type": "prometheus",
        "name": "connections",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": PROMETHEUS,
            "query": 'sum(websocket_connections_active{service="price-service"})',
            "threshold": "400",
            "activationThreshold": "100",
            "ignoreNullValues": "false",
        },
    }
    assert trigger(spec, "backlog")["metadata"] == {
        "serverAddress": PROMETHEUS,
        "query": 'sum(bus_consumer_lag{job="price-service"})',
        "threshold": "1000",
        "ignoreNullValues": "false",
    }
    assert trigger(spec, "cpu") == {
        "type": "cpu",
        "metricType": "Utilization",
        "metadata": {"value": "70"},
    }
    assert len(spec["triggers"]) == 3


def test_connected_clients_are_not_kept_waiting_and_leave_one_pod_at_a_time(record: Record) -> None:
    spec = of(record, "price-service")
    assert behavior(spec) == {
        "scaleUp": {**ADDED, "stabilizationWindowSeconds": 0},
        "scaleDown": ONE_BY_ONE,
    }


def test_orders_scale_by_requests_backlog_and_processors(record: Record) -> None:
    spec = of(record, "order")
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 10)
    assert behavior(spec) == {"scaleUp": ADDED, "scaleDown": ONE_BY_ONE}
    assert spec["fallback"]["replicas"] == 2
    requests = trigger(spec, "requests-per-second")
    assert requests["metricType"] == "AverageValue"
    assert requests["metadata"]["threshold"] == "50"
    assert trigger(spec, "cpu")["metadata"] == {"value": "70"}
    lag = trigger(spec, "lag")
    assert lag["type"] == "kafka"
    assert lag["metadata"]["lagThreshold"] == "1000"
    assert (lag["metadata"]["topic"], lag["metadata"]["consumerGroup"]) == ("matching.output", "order")


def test_the_roles_of_a_news_desk_could_be_scaled_as_they_ask(record: Record) -> None:
    """Analyzer and scraper of seeds 003 and 004 are no roles yet; their figures fit all the same."""
    analyzer = AutoscalerArgs(
        namespace="trading-system",
        minimum=2,
        maximum=5,
        cpu_percent=70,
        memory_percent=80,
        added=Rate(window_seconds=0, period_seconds=15, percent=100, pods=2),
        removed=Rate(window_seconds=300, period_seconds=15, percent=50),
    )
    spec = record(lambda: Autoscaler("analyzer", analyzer)).one("HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    assert spec["metrics"] == [utilisation("cpu", 70), utilisation("memory", 80)]
    assert spec["behavior"]["scaleUp"] == {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 15},
            {"type": "Pods", "value": 2, "periodSeconds": 15},
        ],
    }
    assert spec["behavior"]["scaleDown"]["policies"] == [
        {"type": "Percent", "value": 50, "periodSeconds": 15}
    ]
    scraper = ScaledObjectArgs(
        namespace="trading-system",
        minimum=2,
        maximum=5,
        triggers=[
            PrometheusTrigger("queue", PROMETHEUS, "sum(scraper_queue_size)", 100),
            UtilisationTrigger("cpu", 60),
        ],
        fallback_replicas=2,
    )
    spec = record(lambda: ScaledObject("scraper", scraper)).one("ScaledObject")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 5)
    assert trigger(spec, "queue")["metadata"]["threshold"] == "100"
    assert trigger(spec, "cpu")["metadata"] == {"value": "60"}


def test_every_query_is_over_all_replicas_and_fails_when_its_metric_is_lost(record: Record) -> None:
    """AverageValue divides by the replicas itself: a query that did so, too, would never ask for more."""
    for name in ("price-service", "order"):
        for item in of(record, name)["triggers"]:
            if item["type"] == "prometheus":
                assert item["metricType"] == "AverageValue"
                assert item["metadata"]["ignoreNullValues"] == "false"
                assert "sum(" in item["metadata"]["query"]
                assert "count(" not in item["metadata"]["query"]


def test_an_apply_does_not_prune_the_autoscaler_that_keda_makes(record: Record) -> None:
    args = scaler(role("order"), Scaling(1, 2, requests_per_second=50), BROKERS)
    assert isinstance(args, ScaledObjectArgs)
    made = record(lambda: ScaledObject("order", args)).one("ScaledObject")
    kept_off = made["metadata"]["annotations"]["scaledobject.keda.sh/hpa-excluded-labels"]
    assert kept_off == "applyset.kubernetes.io/part-of"
    assert made["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["name"] == "keda-hpa-order"
    assert "restoreToOriginalReplicaCount" not in made["spec"]["advanced"]


def test_brokers_of_msk_are_entered_with_the_operators_role(record: Record) -> None:
    args = scaler(role("order"), Scaling(2, 6, lag=Lag("matching.output", "order", 1000)), MSK)
    assert isinstance(args, ScaledObjectArgs)
    made = record(lambda: ScaledObject("order", args))
    authentication = made.one("TriggerAuthentication")
    assert authentication["spec"] == {"podIdentity": {"provider": "aws"}}
    lag = trigger(made.one("ScaledObject")["spec"], "lag")
    assert lag["authenticationRef"] == {
        "name": authentication["metadata"]["name"],
        "kind": "TriggerAuthentication",
    }
    entered = {key: lag["metadata"][key] for key in ("sasl", "saslTokenProvider", "tls", "awsRegion")}
    assert entered == {
        "sasl": "oauthbearer",
        "saslTokenProvider": "aws_msk_iam",
        "tls": "enable",
        "awsRegion": "us-east-1",
    }


def test_open_brokers_need_no_authentication(record: Record) -> None:
    args = scaler(role("order"), Scaling(1, 2, lag=Lag("matching.output", "order", 1000)), BROKERS)
    assert isinstance(args, ScaledObjectArgs)
    made = record(lambda: ScaledObject("order", args))
    assert made.kinds() == ["ScaledObject"]
    lag = trigger(made.one("ScaledObject")["spec"], "lag")
    assert "sasl" not in lag["metadata"]
    assert "authenticationRef" not in lag


def test_hours_raise_the_minimum_in_their_own_time_zone(record: Record) -> None:
    hours = Hours("America/New_York", "30 9 * * MON-FRI", "0 16 * * MON-FRI", 4)
    spec = of_scaling(record, "gateway", Scaling(3, 10, memory_percent=80, hours=(hours,)))
    assert trigger(spec, "cron") == {
        "type": "cron",
        "metricType": "AverageValue",
        "metadata": {
            "timezone": "America/New_York",
            "start": "30 9 * * MON-FRI",
            "end": "0 16 * * MON-FRI",
            "desiredReplicas": "4",
        },
    }
    # What the role scaled by before is still there.
    assert trigger(spec, "cpu")["metadata"] == {"value": "70"}
    assert trigger(spec, "memory")["metadata"] == {"value": "80"}


@pytest.mark.parametrize(("maximum", "expected"), [(2, 2), (4, 4), (20, 5)])
def test_lost_metrics_never_ask_for_more_than_the_maximum(
    record: Record, maximum: int, expected: int
) -> None:
    spec = of_scaling(record, "price-service", Scaling(1, maximum, connections=400, fallback_replicas=5))
    assert spec["fallback"]["replicas"] == expected


def test_bounds_that_contradict_each_other_are_refused(record: Record) -> None:
    args = ScaledObjectArgs("n", 2, 4, [UtilisationTrigger("cpu", 70)], fallback_replicas=1)
    with pytest.raises(ValueError, match="minimum 2, fallback 1 and maximum 4 must rise, from 1 on"):
        record(lambda: ScaledObject("x", args))


def test_a_pace_without_any_policy_is_refused(record: Record) -> None:
    args = AutoscalerArgs(namespace="n", minimum=1, maximum=2, added=Rate(0, 60))
    with pytest.raises(ValueError, match="a percentage, a number of pods, or both"):
        record(lambda: Autoscaler("x", args))


def test_a_kafka_trigger_speaks_what_kafka_4_understands(record: Record) -> None:
    kafka = KafkaTrigger("lag", "kafka:9092", "topic", "group", 1000)
    args = ScaledObjectArgs("n", 1, 2, [kafka], fallback_replicas=1)
    spec = record(lambda: ScaledObject("x", args)).one("ScaledObject")["spec"]
    major, minor, _ = (int(part) for part in trigger(spec, "lag")["metadata"]["version"].split("."))
    assert (major, minor) >= (2, 1)


def test_what_scales_by_connections_is_read_more_often() -> None:
    settings = parse({"platform": "local"}, file="Pulumi.test.yaml")
    monitors = {target.name: service_monitor(target) for target in monitoring.targets(settings)}
    paces = {
        name: (monitor["endpoints"][0]["interval"], monitor["endpoints"][0]["scrapeTimeout"])
        for name, monitor in monitors.items()
    }
    assert paces["price-service"] == ("5s", "5s")
    assert {pace for name, pace in paces.items() if name != "price-service"} == {("15s", "10s")}
