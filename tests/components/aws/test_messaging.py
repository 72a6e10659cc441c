"""Queues and topics: encrypted, TLS only, with dead letters, alarms and an exact fan-out."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from components.aws.messaging import QUEUES, TOPICS, Messaging, MessagingArgs
from components.aws.scope import Scope

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")
DEAD = {f"{spec.name}-dead" for spec in QUEUES} | {"undelivered"}


@pytest.fixture
def made(record: Callable[[Callable[[], object]], Any]) -> Any:
    args = MessagingArgs(SCOPE, "arn:key", "arn:alerts", ("ops@example.com",), ("+15550100",))
    return record(lambda: Messaging("messaging", args))


def every(made: Any, kind: str) -> dict[str, dict[str, Any]]:
    return {item.name: item.inputs for item in made.custom() if item.typ.endswith(f":{kind}")}


def statements(document: str) -> dict[str, dict[str, Any]]:
    return {statement["Sid"]: statement for statement in json.loads(document)["Statement"]}


def test_the_queues_and_topics_that_the_platform_names(made: Any) -> None:
    assert {"notification", "report", "withdrawal"} <= every(made, "Queue").keys()
    assert every(made, "Topic").keys() == {"trade", "price-alert", "system"}


def test_everything_is_under_the_customer_key_and_takes_tls_only(made: Any) -> None:
    for kind in ("Queue", "Topic"):
        found = every(made, kind)
        assert {item["kmsMasterKeyId"] for item in found.values()} == {"arn:key"}
        policies = every(made, f"{kind}Policy")
        assert policies.keys() == found.keys()
        for item in policies.values():
            deny = statements(item["policy"])["OnlyTls"]
            assert deny["Effect"] == "Deny"
            assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_nobody_else_is_let_in(made: Any) -> None:
    allowed = {}
    for kind in ("QueuePolicy", "TopicPolicy"):
        for name, item in every(made, kind).items():
            for statement in statements(item["policy"]).values():
                if statement["Effect"] == "Allow":
                    allowed[name] = statement
    assert allowed.keys() == {"notification", "undelivered"}
    for name, statement in allowed.items():
        assert statement["Principal"] == {"Service": "sns.amazonaws.com"}
        assert statement["Resource"] == [f"arn:aws:sqs:us-east-1:123456789012:tradestack-test-{name}"]
        topics = [f"arn:aws:sns:us-east-1:123456789012:tradestack-test-{topic}" for topic in TOPICS]
        assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": topics}}


def test_every_queue_has_dead_letters_of_its_own(made: Any) -> None:
    queues = every(made, "Queue")
    for spec in QUEUES:
        redrive = json.loads(queues[spec.name]["redrivePolicy"])
        assert redrive["maxReceiveCount"] == spec.attempts
        allow = json.loads(queues[f"{spec.name}-dead"]["redriveAllowPolicy"])
        assert allow == {
            "redrivePermission": "byQueue",
            "sourceQueueArns": [f"arn:aws:sqs:us-east-1:123456789012:tradestack-test-{spec.name}"],
        }
    for name in DEAD:
        assert queues[name]["messageRetentionSeconds"] == 14 * 86_400
        assert "redrivePolicy" not in queues[name]
    assert json.loads(queues["undelivered"]["redriveAllowPolicy"]) == {"redrivePermission": "denyAll"}


def test_a_consumer_has_six_times_its_time_and_polls_long(made: Any) -> None:
    for spec in QUEUES:
        queue = made.one("Queue", spec.name)
        assert queue["visibilityTimeoutSeconds"] >= 6 * spec.consumer_seconds
        assert queue["receiveWaitTimeSeconds"] == 20


def test_dead_letters_and_old_messages_raise_alarms(made: Any) -> None:
    alarms = every(made, "MetricAlarm")
    letters = {item["dimensions"]["QueueName"] for name, item in alarms.items() if name.endswith("-letters")}
    assert letters == {f"tradestack-test-{name}" for name in DEAD}
    ages = {item["dimensions"]["QueueName"] for name, item in alarms.items() if name.endswith("-oldest")}
    assert ages == {f"tradestack-test-{spec.name}" for spec in QUEUES}
    for name, item in alarms.items():
        assert item["alarmActions"] == ["arn:alerts"]
        if name.endswith("-letters"):
            assert (item["threshold"], item["evaluationPeriods"]) == (0, 1)


def test_each_topic_is_fanned_out_to_the_notification_queue(made: Any) -> None:
    subscriptions = every(made, "TopicSubscription")
    for topic in TOPICS:
        item = subscriptions[f"{topic}-notification"]
        assert (item["protocol"], item["rawMessageDelivery"]) == ("sqs", True)
        assert json.loads(item["filterPolicy"]) == {"type": ["SendAlert", "SendConfirmation"]}
        assert "deadLetterTargetArn" in json.loads(item["redrivePolicy"])


def test_people_hear_of_system_warnings_by_mail_and_of_critical_ones_by_sms(made: Any) -> None:
    subscriptions = every(made, "TopicSubscription")
    mail, sms = subscriptions["system-email-0"], subscriptions["system-sms-0"]
    assert (mail["protocol"], mail["endpoint"]) == ("email", "ops@example.com")
    assert (sms["protocol"], sms["endpoint"]) == ("sms", "+15550100")
    assert json.loads(sms["filterPolicy"]) == {"severity": ["critical"]}
    assert json.loads(mail["filterPolicy"]) == {"severity": ["warning", "critical"]}
