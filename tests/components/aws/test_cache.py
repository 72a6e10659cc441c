"""The cache: what security asks of it, both modes, and its limits."""

from collections.abc import Callable
from typing import Any

import pytest

from components.aws.cache import Cache, CacheArgs, valkey_family
from components.aws.scope import Scope
from components.aws.secrets import Rotation

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")


def arguments(**changes: Any) -> CacheArgs:
    given: dict[str, Any] = {
        "scope": SCOPE,
        "vpc_id": "vpc-1",
        "subnet_ids": ["subnet-1", "subnet-2", "subnet-3"],
        "client_security_group_ids": {"cluster": "sg-nodes"},
        "key_arn": "arn:data",
        "secret_key_arn": "arn:secrets",
        "log_key_arn": "arn:logs",
        "log_days": 30,
        "alerts_topic_arn": "arn:alerts",
        "engine_version": "8.2",
        "node_type": "cache.t4g.small",
        "mode": "replication",
        "shards": 1,
        "replicas": 2,
        "snapshot_days": 7,
        "protect": True,
    }
    return CacheArgs(**{**given, **changes})


CLUSTER = {"mode": "cluster", "shards": 3, "replicas": 1}


def parameters(recorded: Any) -> dict[str, str]:
    return {item["name"]: item["value"] for item in recorded.one("ParameterGroup")["parameters"]}


def test_it_is_encrypted_asks_for_a_token_and_is_saved(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Cache("cache", arguments()))
    group = recorded.one("ReplicationGroup")
    assert (group["engine"], group["engineVersion"]) == ("valkey", "8.2")
    assert (group["atRestEncryptionEnabled"], group["kmsKeyId"]) == (True, "arn:data")
    assert (group["transitEncryptionEnabled"], group["transitEncryptionMode"]) == (True, "required")
    assert group["authToken"]
    assert group["snapshotRetentionLimit"] == 7
    assert group["finalSnapshotIdentifier"] == "tradestack-test-cache-final"
    assert group["subnetGroupName"] == "tradestack-test-cache"


def test_a_cache_that_may_go_leaves_no_snapshot_whose_name_stays_taken(record: Callable[..., Any]) -> None:
    group = record(lambda: Cache("cache", arguments(protect=False))).one("ReplicationGroup")
    assert "finalSnapshotIdentifier" not in group


def test_its_token_is_what_elasticache_takes_and_is_rotated(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Cache("cache", arguments(rotation=Rotation("arn:rotation"))))
    token = recorded.one("RandomPassword")
    assert 16 <= token["length"] <= 128
    assert token["special"] is False
    secret = recorded.one("Secret")
    assert secret["kmsKeyId"] == "arn:secrets"
    assert secret["tags"]["tradestack:rotates"] == "cache"
    assert secret["tags"]["tradestack:target"] == recorded.one("ReplicationGroup")["replicationGroupId"]
    assert recorded.one("SecretRotation")["rotationLambdaArn"] == "arn:rotation"


def test_replication_is_one_shard_that_fails_over(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Cache("cache", arguments()))
    group = recorded.one("ReplicationGroup")
    assert group["numCacheClusters"] == 3
    assert (group["automaticFailoverEnabled"], group["multiAzEnabled"]) == (True, True)
    assert not {"numNodeGroups", "replicasPerNodeGroup"} & set(group)
    assert "cluster-enabled" not in parameters(recorded)


def test_a_single_node_has_nobody_to_fail_over_to(record: Callable[..., Any]) -> None:
    group = record(lambda: Cache("cache", arguments(replicas=0))).one("ReplicationGroup")
    assert group["numCacheClusters"] == 1
    assert (group["automaticFailoverEnabled"], group["multiAzEnabled"]) == (False, False)


def test_a_cluster_has_three_shards_with_a_replica_each(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Cache("cache", arguments(**CLUSTER)))
    group = recorded.one("ReplicationGroup")
    assert (group["numNodeGroups"], group["replicasPerNodeGroup"]) == (3, 1)
    assert "numCacheClusters" not in group
    assert (group["automaticFailoverEnabled"], group["multiAzEnabled"]) == (True, True)
    assert parameters(recorded)["cluster-enabled"] == "yes"


def test_clients_learn_from_the_address_whether_it_is_a_cluster(record: Callable[..., Any]) -> None:
    seen: list[str] = []
    record(lambda: Cache("cache", arguments()).url.apply(seen.append))
    record(lambda: Cache("cache", arguments(**CLUSTER)).url.apply(seen.append))
    assert all(url.startswith("rediss://") for url in seen)
    assert [url.partition(":6379")[2] for url in seen] == ["/0", "/0?cluster=true"]


def test_only_clients_reach_it(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Cache("cache", arguments()))
    rule = recorded.one("SecurityGroupIngressRule")
    assert (rule["fromPort"], rule["toPort"]) == (6379, 6379)
    assert rule["referencedSecurityGroupId"] == "sg-nodes"
    assert "SecurityGroupEgressRule" not in recorded.kinds()


def test_its_logs_go_to_encrypted_groups(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Cache("cache", arguments()))
    groups = {
        item.inputs["name"]: item.inputs for item in recorded.custom() if item.typ.endswith(":LogGroup")
    }
    deliveries = recorded.one("ReplicationGroup")["logDeliveryConfigurations"]
    assert {item["logType"] for item in deliveries} == {"slow-log", "engine-log"}
    assert {item["destination"] for item in deliveries} == set(groups)
    assert {group["kmsKeyId"] for group in groups.values()} == {"arn:logs"}


def test_every_node_is_watched_under_the_name_that_elasticache_gives_it(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Cache("cache", arguments(**CLUSTER)))
    alarms = [item.inputs for item in recorded.custom() if item.typ.endswith(":MetricAlarm")]
    nodes = {alarm["dimensions"]["CacheClusterId"] for alarm in alarms}
    assert nodes == {f"tradestack-test-cache-000{shard}-00{node}" for shard in (1, 2, 3) for node in (1, 2)}
    assert len(alarms) == 6 * 3
    single = record(lambda: Cache("cache", arguments(replicas=0)))
    metrics = {item.inputs["metricName"] for item in single.custom() if item.typ.endswith(":MetricAlarm")}
    assert "ReplicationLag" not in metrics


def test_a_long_prefix_still_makes_an_id_that_elasticache_takes(record: Callable[..., Any]) -> None:
    scope = Scope(
        prefix="tradestack-a-very-long-environment-name", account="123456789012", region="us-east-1"
    )
    recorded = record(lambda: Cache("cache", arguments(scope=scope)))
    assert len(recorded.one("ReplicationGroup")["replicationGroupId"]) <= 40


@pytest.mark.parametrize(("version", "family"), [("7.2", "valkey7"), ("8.2", "valkey8"), ("9.0", "valkey9")])
def test_the_family_follows_from_the_major_version(version: str, family: str) -> None:
    assert valkey_family(version) == family


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replicas": 0, "multi_az": True}, "multi_az: needs at least one replica"),
        ({"shards": 3}, "shards 3: mode replication has one shard"),
        ({"mode": "single"}, "mode 'single': replication or cluster"),
        ({"replicas": 6}, "replicas 6: ElastiCache allows 0 to 5"),
        ({"mode": "cluster", "shards": 0}, "shards 0: at least 1"),
        ({"mode": "cluster", "shards": 31}, "at most 90 nodes, not 93"),
        ({"snapshot_days": 36}, "snapshot_days 36: ElastiCache allows 0 to 35"),
        ({"engine_version": "6.2"}, "engine_version '6.2': Valkey 7.2 or later"),
        ({"engine_version": "8"}, "engine_version '8': Valkey 7.2 or later, such as 8.2"),
    ],
)
def test_impossible_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(**changes)
