"""The audit trail and the alarms on it."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from components.aws.audit import WATCHES, Audit, AuditArgs
from components.aws.scope import Scope

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="eu-west-1")
ARGS = AuditArgs(
    scope=SCOPE,
    key_arn="arn:key",
    log_key_arn="arn:logs-key",
    log_days=365,
    bucket="tradestack-test-logs-123456789012",
    alerts_topic_arn="arn:topic",
)
Record = Callable[[Callable[[], object]], Any]


def test_the_trail_covers_every_region_is_validated_encrypted_and_in_cloudwatch(record: Record) -> None:
    made = record(lambda: Audit("audit", ARGS))
    trail = made.one("Trail")
    assert trail["isMultiRegionTrail"] is True
    assert trail["includeGlobalServiceEvents"] is True
    assert trail["enableLogFileValidation"] is True
    assert trail["kmsKeyId"] == "arn:key"
    assert trail["s3BucketName"] == "tradestack-test-logs-123456789012"
    assert trail["cloudWatchLogsGroupArn"].endswith(":*")
    assert trail["cloudWatchLogsRoleArn"]
    group = made.one("LogGroup")
    assert (group["kmsKeyId"], group["retentionInDays"]) == ("arn:logs-key", 365)


def test_the_trail_may_write_its_own_log_streams_only(record: Record) -> None:
    made = record(lambda: Audit("audit", ARGS))
    assert json.loads(made.one("RolePolicy")["policy"])["Statement"] == [
        {
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": [
                "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/cloudtrail/tradestack-test:"
                "log-stream:123456789012_CloudTrail_eu-west-1*"
            ],
        }
    ]
    assumed = json.loads(made.one("Role")["assumeRolePolicy"])["Statement"][0]
    assert assumed["Principal"] == {"Service": "cloudtrail.amazonaws.com"}
    assert "Condition" not in assumed  # CloudTrail tells no account when it takes the role


def test_objects_and_unusual_rates_are_recorded_only_when_asked_for(record: Record) -> None:
    plain = record(lambda: Audit("audit", ARGS)).one("Trail")
    assert [item["name"] for item in plain["advancedEventSelectors"]] == ["Management events"]
    assert plain["insightSelectors"] == []
    more = replace(ARGS, data_bucket_arns=("arn:aws:s3:::kyc",), insights=True)
    trail = record(lambda: Audit("audit", more)).one("Trail")
    objects = trail["advancedEventSelectors"][1]["fieldSelectors"]
    assert objects[-1] == {"field": "resources.ARN", "startsWiths": ["arn:aws:s3:::kyc/"]}
    assert [item["insightType"] for item in trail["insightSelectors"]] == [
        "ApiCallRateInsight",
        "ApiErrorRateInsight",
    ]


def test_every_watch_counts_into_the_metric_that_its_alarm_reads(record: Record) -> None:
    made = record(lambda: Audit("audit", ARGS))
    for watch in WATCHES:
        counted = made.one("LogMetricFilter", watch.name)
        alarm = made.one("MetricAlarm", watch.name)
        assert counted["pattern"] == watch.pattern
        assert counted["logGroupName"] == "/aws/cloudtrail/tradestack-test"
        assert counted["metricTransformation"]["name"] == alarm["metricName"] == watch.metric
        assert counted["metricTransformation"]["namespace"] == alarm["namespace"]
        assert alarm["threshold"] == watch.limit
        assert alarm["alarmActions"] == ["arn:topic"]


def test_what_nobody_should_do_is_watched() -> None:
    patterns = {watch.name: watch.pattern for watch in WATCHES}
    assert {"root-use", "unauthorized-calls", "sign-in-without-mfa", "key-deletion", "trail-changes"} <= set(
        patterns
    )
    assert patterns["key-deletion"] == (
        "{ ($.eventSource = kms.amazonaws.com) && "
        "(($.eventName = DisableKey) || ($.eventName = ScheduleKeyDeletion)) }"
    )
    # CloudWatch Logs takes filter patterns of at most 1024 characters.
    assert max(map(len, patterns.values())) <= 1024
