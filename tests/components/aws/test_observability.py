"""The dashboard, alarms and trace rules of a stack."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from components.aws.dashboard import Dashboard, Graph, Metric, Section, dashboard_body
from components.aws.observability import (
    Kafka,
    LoadBalancer,
    Observability,
    ObservabilityArgs,
    cache_nodes,
)
from components.aws.scope import Scope

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="eu-west-1")
ARGS = ObservabilityArgs(
    scope=SCOPE,
    app_log_group="/aws/containerinsights/trade/application",
    alerts_topic_arn="arn:topic",
    cluster="trade",
    load_balancer=LoadBalancer("app/edge/1", "targetgroup/edge/2"),
    databases=("db", "db-replica-1"),
    cache_nodes=("cache-001", "cache-002"),
    kafka=Kafka("kafka", 3),
    queues=("report", "withdrawal"),
    functions=("kyc",),
    streams=("analytics",),
)
Record = Callable[[Callable[[], object]], Any]


def _body(made: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.one("Dashboard")["dashboardBody"])
    return found


def test_the_dashboard_shows_every_service_in_the_stacks_region(record: Record) -> None:
    body = _body(record(lambda: Observability("watch", ARGS)))
    metrics = [item["properties"] for item in body["widgets"] if item["type"] == "metric"]
    assert {item["region"] for item in metrics} == {"eu-west-1"}
    namespaces = {line[0] for item in metrics for line in item["metrics"]}
    assert namespaces == {
        "AWS/ApplicationELB",
        "ContainerInsights",
        "AWS/RDS",
        "AWS/ElastiCache",
        "AWS/Kafka",
        "AWS/SQS",
        "AWS/Lambda",
        "AWS/Kinesis",
    }
    waiting = next(item for item in metrics if item["title"] == "Waiting messages")
    assert waiting["metrics"][1][:4] == [
        "AWS/SQS",
        "ApproximateNumberOfMessagesVisible",
        "QueueName",
        "withdrawal",
    ]
    brokers = next(item for item in metrics if item["title"] == "Disk in %")["metrics"]
    assert [line[line.index("Broker ID") + 1] for line in brokers] == ["1", "2", "3"]


def test_widgets_do_not_overlap_and_stay_inside_the_grid(record: Record) -> None:
    taken: set[tuple[int, int]] = set()
    for widget in _body(record(lambda: Observability("watch", ARGS)))["widgets"]:
        assert widget["x"] + widget["width"] <= 24
        cells = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert not cells & taken, widget
        taken |= cells


def test_a_service_that_a_stack_lacks_leaves_no_trace(record: Record) -> None:
    made = record(
        lambda: Observability(
            "watch",
            ObservabilityArgs(
                SCOPE, "/trade/application", "arn:topic", "trade", namespaces=("trading-system",)
            ),
        )
    )
    titles = [item["properties"]["markdown"] for item in _body(made)["widgets"] if item["type"] == "text"]
    assert titles[1:] == ["## Cluster"]
    assert made.one("CompositeAlarm")["alarmRule"] == 'ALARM("tradestack-test-no-nodes")'


def test_a_dashboard_larger_than_cloudwatch_takes_is_refused() -> None:
    graph = Graph("g", (Metric("AWS/SQS", "m", {"QueueName": "q"}),))
    with pytest.raises(ValueError, match="dashboard 'big': 502 widgets, at most 500 are allowed"):
        dashboard_body(Dashboard("big", "eu-west-1", (Section("s", (graph,) * 500),)))


def test_a_limit_is_drawn_as_a_line() -> None:
    graph = Graph("g", (Metric("AWS/SQS", "m", {"QueueName": "q"}, label="queue"),), limit=5)
    widget = dashboard_body(Dashboard("d", "eu-west-1", (Section("s", (graph,)),)))["widgets"][-1]
    assert widget["properties"]["annotations"] == {"horizontal": [{"label": "limit", "value": 5}]}
    assert widget["properties"]["metrics"][0][-1] == {"stat": "Average", "label": "queue"}


def test_error_lines_of_the_app_are_counted_and_alarm(record: Record) -> None:
    made = record(lambda: Observability("watch", replace(ARGS, error_limit=3)))
    counted = made.one("LogMetricFilter")
    assert counted["logGroupName"] == "/aws/containerinsights/trade/application"
    assert '"error"' in counted["pattern"]
    assert '"critical"' in counted["pattern"]
    alarm = made.one("MetricAlarm", "app-errors")
    transformation = counted["metricTransformation"]
    assert (alarm["namespace"], alarm["metricName"]) == (transformation["namespace"], transformation["name"])
    assert (alarm["threshold"], alarm["statistic"], alarm["period"]) == (3, "Sum", 300)


def test_the_platform_is_down_when_anything_it_needs_is(record: Record) -> None:
    made = record(lambda: Observability("watch", ARGS))
    composite = made.one("CompositeAlarm")
    named = {item.inputs["name"] for item in made.custom() if item.typ.endswith(":MetricAlarm")}
    inside = {part.split('"')[1] for part in composite["alarmRule"].split(" OR ")}
    assert inside == named - {"tradestack-test-app-errors"}
    assert len(inside) == 4
    assert composite["alarmActions"] == composite["okActions"] == ["arn:topic"]
    # Silence is an alarm where only a service that is down is silent.
    silent = {item.name for item in made.custom() if item.inputs.get("treatMissingData") == "breaching"}
    assert silent == {"no-nodes", "no-healthy-target", "database-silent"}


def test_a_stack_that_rests_is_not_down_when_it_is_silent(record: Record) -> None:
    made = record(lambda: Observability("watch", replace(ARGS, rests=True)))
    alarms = {item.name: item.inputs for item in made.custom() if item.typ.endswith(":MetricAlarm")}
    assert {alarm["treatMissingData"] for alarm in alarms.values()} == {"notBreaching"}
    assert "database-silent" not in alarms
    assert "no-nodes" in made.one("CompositeAlarm")["alarmRule"]


def test_the_dashboard_shows_the_alarms_that_exist(record: Record) -> None:
    made = record(lambda: Observability("watch", ARGS))
    shown = next(item for item in _body(made)["widgets"] if item["type"] == "alarm")["properties"]["alarms"]
    existing = [item.inputs["name"] for item in made.custom() if item.typ.endswith(":MetricAlarm")]
    existing.append(made.one("CompositeAlarm")["alarmName"])
    assert sorted(shown) == sorted(
        f"arn:aws:cloudwatch:eu-west-1:123456789012:alarm:{name}" for name in existing
    )


def test_traces_have_a_rule_and_a_group_within_the_limits(record: Record) -> None:
    long = replace(ARGS, scope=replace(SCOPE, prefix="tradestack-of-a-rather-long-name"), trace_rate=0.2)
    made = record(lambda: Observability("watch", replace(long, trace_key_arn="arn:key")))
    rule, group = made.one("SamplingRule"), made.one("Group")
    assert rule["fixedRate"] == 0.2
    assert len(rule["ruleName"]) <= 32
    assert group["groupName"] == rule["ruleName"]
    assert made.one("EncryptionConfig") == {"type": "KMS", "keyId": "arn:key"}
    assert "EncryptionConfig" not in record(lambda: Observability("watch", ARGS)).kinds()


def test_nodes_of_a_cache_are_numbered_as_elasticache_does() -> None:
    assert cache_nodes("cache", 1, 1, cluster_mode=False) == ["cache-001", "cache-002"]
    assert cache_nodes("cache", 2, 1, cluster_mode=True) == [
        "cache-0001-001",
        "cache-0001-002",
        "cache-0002-001",
        "cache-0002-002",
    ]
