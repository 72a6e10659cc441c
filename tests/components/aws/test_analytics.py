"""The analytics stream: encrypted, scaled as told, delivered to S3 by a role that can do nothing else."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from components.aws.analytics import Analytics, AnalyticsArgs
from components.aws.scope import Scope

Record = Callable[[Callable[[], object]], Any]
SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")
ARGS = AnalyticsArgs(
    SCOPE,
    key_arn="arn:stream-key",
    log_key_arn="arn:log-key",
    log_days=30,
    bucket_arn="arn:aws:s3:::archive",
    bucket_key_arn="arn:bucket-key",
    shards=0,
    retention_hours=48,
    alerts_topic_arn="arn:alerts",
)


def test_the_stream_is_encrypted_and_scales_by_itself_unless_told(record: Record) -> None:
    stream = record(lambda: Analytics("analytics", ARGS)).one("Stream")
    assert (stream["encryptionType"], stream["kmsKeyId"]) == ("KMS", "arn:stream-key")
    assert stream["retentionPeriod"] == 48
    assert stream["streamModeDetails"] == {"streamMode": "ON_DEMAND"}
    assert "shardCount" not in stream
    stream = record(lambda: Analytics("analytics", replace(ARGS, shards=2))).one("Stream")
    assert (stream["streamModeDetails"], stream["shardCount"]) == ({"streamMode": "PROVISIONED"}, 2)


def test_files_are_gzipped_lines_by_date_and_failures_lie_apart(record: Record) -> None:
    delivery = record(lambda: Analytics("analytics", ARGS)).one("FirehoseDeliveryStream")
    target = delivery["extendedS3Configuration"]
    assert delivery["destination"] == "extended_s3"
    assert target["prefix"] == "analytics/date=!{timestamp:yyyy-MM-dd}/"
    assert target["errorOutputPrefix"].startswith("analytics-failed/!{firehose:error-output-type}/")
    assert (target["compressionFormat"], target["kmsKeyArn"]) == ("GZIP", "arn:bucket-key")
    assert target["processingConfiguration"]["processors"][0]["type"] == "AppendDelimiterToRecord"
    assert target["cloudwatchLoggingOptions"]["enabled"] is True


def test_the_role_reads_the_stream_and_writes_below_two_prefixes(record: Record) -> None:
    made = record(lambda: Analytics("analytics", ARGS))
    document = json.loads(made.one("RolePolicy")["policy"])
    allowed = {
        action: statement["Resource"] for statement in document["Statement"] for action in statement["Action"]
    }
    assert allowed["s3:PutObject"] == [
        "arn:aws:s3:::archive/analytics/*",
        "arn:aws:s3:::archive/analytics-failed/*",
    ]
    assert not [action for action in allowed if "*" in action or "Delete" in action]
    assert not [resource for resources in allowed.values() for resource in resources if resource == "*"]


def test_logs_are_encrypted_and_end(record: Record) -> None:
    logs = record(lambda: Analytics("analytics", ARGS)).one("LogGroup")
    assert (logs["kmsKeyId"], logs["retentionInDays"]) == ("arn:log-key", 30)


def test_lag_and_throttling_raise_alarms(record: Record) -> None:
    made = record(lambda: Analytics("analytics", ARGS))
    metrics = {
        item.inputs["metricName"]
        for item in made.custom()
        if item.typ.endswith(":MetricAlarm") and item.inputs["alarmActions"] == ["arn:alerts"]
    }
    assert metrics == {
        "GetRecords.IteratorAgeMilliseconds",
        "WriteProvisionedThroughputExceeded",
        "ReadProvisionedThroughputExceeded",
        "DeliveryToS3.DataFreshness",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"retention_hours": 12}, "retention_hours 12: Kinesis allows 24 to 8760"),
        ({"shards": -1}, "shards -1"),
    ],
)
def test_figures_that_kinesis_refuses_are_refused_at_once(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ARGS, **change)
