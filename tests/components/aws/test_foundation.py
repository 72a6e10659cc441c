"""Names, policies, roles, keys and alarms that every AWS component uses."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from components.aws.alerts import Alarm, Alerts, AlertsArgs, make_alarm
from components.aws.encryption import Key, KeyArgs
from components.aws.identity import PodRole, PodRoleArgs, Role, RoleArgs, Statement, trust
from components.aws.scope import Scope, safe_name

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")


def test_a_name_within_the_limit_is_kept_and_a_longer_one_ends_in_a_hash_of_the_whole() -> None:
    assert safe_name("a", "b", limit=12) == "a-b"
    long = safe_name("tradestack-production", "a-very-long-purpose", limit=32)
    other = safe_name("tradestack-production", "a-very-long-purposf", limit=32)
    assert len(long) <= 32
    assert long.startswith("tradestack-production-")
    assert long != other


def test_a_limit_without_room_for_a_hash_is_refused() -> None:
    with pytest.raises(ValueError, match="limit 11: at least 12"):
        safe_name("a", limit=11)


def test_arns_and_buckets_carry_account_and_region() -> None:
    assert SCOPE.arn("rds", "db:x") == "arn:aws:rds:us-east-1:123456789012:db:x"
    assert SCOPE.arn("iam", "root", region="") == "arn:aws:iam::123456789012:root"
    assert SCOPE.bucket("logs") == "tradestack-test-logs-123456789012"


def test_a_role_grants_its_statements_and_nothing_else(record: Callable[..., Any]) -> None:
    statement = Statement(
        ("sqs:SendMessage",), ("arn:aws:sqs:::q",), {"Bool": {"aws:SecureTransport": "true"}}
    )
    args = RoleArgs(SCOPE, trust("lambda.amazonaws.com", SCOPE), (statement,), ("service-role/Basic",))
    recorded = record(lambda: Role("worker", args))
    assert recorded.kinds() == ["Role", "RolePolicy", "RolePolicyAttachment"]
    assert recorded.one("Role")["name"] == "tradestack-test-worker"
    assert json.loads(recorded.one("RolePolicy")["policy"])["Statement"] == [
        {
            "Effect": "Allow",
            "Action": ["sqs:SendMessage"],
            "Resource": ["arn:aws:sqs:::q"],
            "Condition": {"Bool": {"aws:SecureTransport": "true"}},
        }
    ]
    assert recorded.one("RolePolicyAttachment")["policyArn"] == "arn:aws:iam::aws:policy/service-role/Basic"


def test_a_pod_role_is_trusted_for_one_cluster_and_bound_to_one_service_account(
    record: Callable[..., Any],
) -> None:
    args = PodRoleArgs(SCOPE, "trade", "trade", "trading-system", "gateway")
    recorded = record(lambda: PodRole("gateway", args))
    document = json.loads(recorded.one("Role")["assumeRolePolicy"])
    condition = document["Statement"][0]["Condition"]
    assert condition == {
        "StringEquals": {
            "aws:SourceAccount": "123456789012",
            "aws:RequestTag/eks-cluster-arn": "arn:aws:eks:us-east-1:123456789012:cluster/trade",
        }
    }
    association = recorded.one("PodIdentityAssociation")
    assert (association["namespace"], association["serviceAccount"]) == ("trading-system", "gateway")


def test_a_key_rotates_has_a_window_and_no_open_principal(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Key("data", KeyArgs(SCOPE, "Data", ("logs.us-east-1.amazonaws.com",))))
    key = recorded.one("Key")
    assert key["enableKeyRotation"] is True
    assert key["deletionWindowInDays"] == 30
    principals = [item["Principal"] for item in json.loads(key["policy"])["Statement"]]
    assert principals == [
        {"AWS": "arn:aws:iam::123456789012:root"},
        {"Service": "logs.us-east-1.amazonaws.com"},
    ]
    assert recorded.one("Alias")["name"] == "alias/tradestack-test-data"


def test_a_key_is_used_for_this_account_only_by_what_each_service_tells_of_it(
    record: Callable[..., Any],
) -> None:
    services = ("cloudtrail.amazonaws.com", "events.amazonaws.com", "sns.amazonaws.com")
    key = record(lambda: Key("messaging", KeyArgs(SCOPE, "Messages", services))).one("Key")
    statements = json.loads(key["policy"])["Statement"][1:]
    assert {item["Principal"]["Service"]: item["Condition"] for item in statements} == {
        "cloudtrail.amazonaws.com": {
            "ArnLike": {"aws:SourceArn": "arn:aws:cloudtrail:us-east-1:123456789012:trail/*"}
        },
        # EventBridge names no source to the key of an encrypted topic.
        "events.amazonaws.com": {
            "ArnLike": {"kms:EncryptionContext:aws:sns:topicArn": "arn:aws:sns:us-east-1:123456789012:*"}
        },
        "sns.amazonaws.com": {"StringEquals": {"aws:SourceAccount": "123456789012"}},
    }


def test_alarms_need_one_bound_and_tell_both_ways(record: Callable[..., Any]) -> None:
    def build() -> None:
        alerts = Alerts("alerts", AlertsArgs(SCOPE, "arn:key", ("ops@example.com",)))
        alarm = Alarm("AWS/RDS", "CPUUtilization", {"DBInstanceIdentifier": "x"}, above=80)
        make_alarm("cpu", alarm, scope=SCOPE, topic_arn=alerts.topic_arn, what="CPU", parent=alerts)
        with pytest.raises(ValueError, match="either above or below"):
            make_alarm(
                "no",
                Alarm("AWS/RDS", "CPUUtilization", {}),
                scope=SCOPE,
                topic_arn="",
                what="",
                parent=alerts,
            )

    recorded = record(build)
    alarm = recorded.one("MetricAlarm")
    assert alarm["comparisonOperator"] == "GreaterThanThreshold"
    assert alarm["alarmActions"] == alarm["okActions"]
    assert recorded.one("Topic")["kmsMasterKeyId"] == "arn:key"
    assert recorded.one("TopicSubscription")["endpoint"] == "ops@example.com"
