"""The Kafka cluster: what security asks of it, durability, growth and its limits."""

from collections.abc import Callable
from typing import Any

import pytest

from components.aws.scope import Scope
from components.aws.streaming import Streaming, StreamingArgs, resource_arn, server_properties

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")
ARN = "arn:aws:kafka:us-east-1:123456789012:cluster/tradestack-test-streaming/4e9c-uuid-1"


def arguments(**changes: Any) -> StreamingArgs:
    given: dict[str, Any] = {
        "scope": SCOPE,
        "vpc_id": "vpc-1",
        "subnet_ids": ["subnet-1", "subnet-2", "subnet-3"],
        "client_security_group_ids": {"cluster": "sg-nodes"},
        "key_arn": "arn:data",
        "log_key_arn": "arn:logs",
        "log_days": 30,
        "alerts_topic_arn": "arn:alerts",
        "kafka_version": "4.1.x.kraft",
        "broker_type": "kafka.m7g.large",
        "brokers": 3,
        "storage_gib": 100,
        "protect": True,
    }
    return StreamingArgs(**{**given, **changes})


def properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_it_speaks_tls_and_knows_everybody_by_their_role(record: Callable[..., Any]) -> None:
    cluster = record(lambda: Streaming("streaming", arguments())).one("Cluster")
    assert cluster["clientAuthentication"] == {"sasl": {"iam": True}, "unauthenticated": False}
    assert cluster["encryptionInfo"] == {
        "encryptionAtRestKmsKeyArn": "arn:data",
        "encryptionInTransit": {"clientBroker": "TLS", "inCluster": True},
    }


def test_it_is_not_public_and_spread_over_the_zones(record: Callable[..., Any]) -> None:
    cluster = record(lambda: Streaming("streaming", arguments())).one("Cluster")
    nodes = cluster["brokerNodeGroupInfo"]
    assert nodes["connectivityInfo"] == {"publicAccess": {"type": "DISABLED"}}
    assert nodes["clientSubnets"] == ["subnet-1", "subnet-2", "subnet-3"]
    assert cluster["numberOfBrokerNodes"] == 3
    assert cluster["kafkaVersion"] == "4.1.x.kraft"


def test_three_brokers_lose_nothing_that_was_confirmed(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Streaming("streaming", arguments(retention_hours=24)))
    found = properties(recorded.one("Configuration")["serverProperties"])
    assert found["default.replication.factor"] == "3"
    assert found["min.insync.replicas"] == "2"
    assert found["unclean.leader.election.enable"] == "false"
    assert found["auto.create.topics.enable"] == "false"
    assert found["log.retention.hours"] == "24"


def test_every_internal_topic_has_as_many_copies() -> None:
    found = properties(server_properties(2, 1, 3, 168))
    assert found["offsets.topic.replication.factor"] == found["default.replication.factor"] == "2"
    assert found["transaction.state.log.min.isr"] == found["min.insync.replicas"] == "1"


@pytest.mark.parametrize(("copies", "in_step"), [(4, 2), (3, 3), (2, 0)])
def test_copies_that_cannot_be_are_refused(copies: int, in_step: int) -> None:
    with pytest.raises(ValueError, match=f"replication_factor {copies}: above min_insync"):
        arguments(replication_factor=copies, min_insync=in_step)


def test_it_logs_and_can_be_watched_by_prometheus(record: Callable[..., Any]) -> None:
    args = arguments(metrics_security_group_ids={"prometheus": "sg-monitoring"})
    recorded = record(lambda: Streaming("streaming", args))
    cluster, logs = recorded.one("Cluster"), recorded.one("LogGroup")
    assert cluster["loggingInfo"]["brokerLogs"]["cloudwatchLogs"] == {
        "enabled": True,
        "logGroup": logs["name"],
    }
    assert logs["kmsKeyId"] == "arn:logs"
    exporters = cluster["openMonitoring"]["prometheus"]
    assert exporters["jmxExporter"] == exporters["nodeExporter"] == {"enabledInBroker": True}
    rules = [item.inputs for item in recorded.custom() if item.typ.endswith(":SecurityGroupIngressRule")]
    reached = {(rule["referencedSecurityGroupId"], rule["fromPort"]) for rule in rules}
    assert reached == {("sg-nodes", 9098), ("sg-monitoring", 11001), ("sg-monitoring", 11002)}


def test_storage_grows_only_when_asked_and_never_shrinks(record: Callable[..., Any]) -> None:
    fixed = record(lambda: Streaming("streaming", arguments()))
    assert "Target" not in fixed.kinds()
    recorded = record(lambda: Streaming("streaming", arguments(max_storage_gib=500)))
    target, policy = recorded.one("Target"), recorded.one("Policy")
    assert (target["serviceNamespace"], target["maxCapacity"]) == ("kafka", 500)
    tracking = policy["targetTrackingScalingPolicyConfiguration"]
    assert tracking["disableScaleIn"] is True
    assert tracking["targetValue"] == 70


def test_alarms_tell_of_the_cluster_and_of_each_broker(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Streaming("streaming", arguments()))
    alarms = {item.name: item.inputs for item in recorded.custom() if item.typ.endswith(":MetricAlarm")}
    assert set(alarms) == {
        "streaming-offline-partitions",
        "streaming-no-controller",
        *(f"streaming-{broker}-{what}" for broker in (1, 2, 3) for what in ("disk", "lagging-partitions")),
    }
    controller = alarms["streaming-no-controller"]
    assert (controller["comparisonOperator"], controller["threshold"]) == ("LessThanThreshold", 1)
    assert alarms["streaming-2-disk"]["dimensions"] == {
        "Cluster Name": "tradestack-test-streaming",
        "Broker ID": "2",
    }
    basic = record(lambda: Streaming("streaming", arguments(enhanced_monitoring="DEFAULT")))
    assert not [item for item in basic.custom() if item.name.endswith("lagging-partitions")]


def test_topics_and_groups_have_arns_below_the_cluster() -> None:
    topic = resource_arn(ARN, "topic", "order.events")
    assert topic == ARN.replace(":cluster/", ":topic/") + "/order.events"
    assert resource_arn(ARN, "group", "portfolio*").endswith("/4e9c-uuid-1/portfolio*")
    with pytest.raises(ValueError, match="'arn:other' is no ARN of an MSK cluster"):
        resource_arn("arn:other", "topic", "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kafka_version": "3.9.x"}, "kafka_version '3.9.x': a version with KRaft"),
        ({"kafka_version": "4.1.0"}, "kafka_version '4.1.0': a version with KRaft, such as 4.1.x.kraft"),
        ({"subnet_ids": ["subnet-1"]}, "subnet_ids: 1 of them"),
        ({"brokers": 4}, "brokers 4: a multiple of the 3 zones"),
        ({"storage_gib": 0}, "storage_gib 0: MSK allows 1 to 16384"),
        ({"max_storage_gib": 100}, "max_storage_gib 100: 0, or more than storage_gib"),
        ({"enhanced_monitoring": "FULL"}, "enhanced_monitoring 'FULL': one of DEFAULT"),
    ],
)
def test_impossible_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(**changes)
