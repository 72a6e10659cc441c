"""Budgets, the watch for unusual costs, and databases that rest outside market hours."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from components.aws.budget import Budget, BudgetArgs
from components.aws.schedule import DatabaseSchedule, DatabaseScheduleArgs
from components.aws.scope import Scope

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="eu-west-1")
BUDGET = BudgetArgs(SCOPE, "dev", 400, "arn:topic", emails=("ops@example.com",))
HOURS = DatabaseScheduleArgs(
    SCOPE,
    ("db",),
    start="0 7 ? * MON-FRI *",
    stop="0 19 ? * MON-FRI *",
    zone="America/New_York",
    key_arn="arn:key",
)
Record = Callable[[Callable[[], object]], Any]


def test_the_budget_covers_the_stack_alone_and_is_announced_in_steps(record: Record) -> None:
    budget = record(lambda: Budget("budget", BUDGET)).one("Budget")
    assert (budget["limitAmount"], budget["limitUnit"], budget["timeUnit"]) == ("400", "USD", "MONTHLY")
    assert budget["costFilters"] == [{"name": "TagKeyValue", "values": ["user:tradestack:stack$dev"]}]
    steps = [(item["notificationType"], item["threshold"]) for item in budget["notifications"]]
    assert steps == [("ACTUAL", 50), ("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100)]
    for item in budget["notifications"]:
        assert item["subscriberSnsTopicArns"] == ["arn:topic"]
        assert item["subscriberEmailAddresses"] == ["ops@example.com"]
        assert item["thresholdType"] == "PERCENTAGE"


def test_unusual_costs_of_the_stack_are_announced_at_once(record: Record) -> None:
    made = record(lambda: Budget("budget", replace(BUDGET, anomaly_usd=20)))
    watched = json.loads(made.one("AnomalyMonitor")["monitorSpecification"])["Tags"]
    assert (watched["Key"], watched["Values"]) == ("tradestack:stack", ["dev"])
    told = made.one("AnomalySubscription")
    assert told["frequency"] == "IMMEDIATE"
    assert told["subscribers"] == [{"type": "SNS", "address": "arn:topic"}]
    assert told["thresholdExpression"]["dimension"]["values"] == ["20"]
    assert record(lambda: Budget("budget", replace(BUDGET, anomaly_usd=None))).kinds() == ["Budget"]


def test_tags_are_activated_only_where_a_stack_may_do_it(record: Record) -> None:
    assert "CostAllocationTag" not in record(lambda: Budget("budget", BUDGET)).kinds()
    made = record(lambda: Budget("budget", replace(BUDGET, activate_tags=("tradestack:stack",))))
    assert made.one("CostAllocationTag") == {"tagKey": "tradestack:stack", "status": "Active"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"monthly_usd": 0}, "monthly_usd is 0; at least 1 US dollar"),
        ({"emails": ("a@example.com",) * 11}, "11 e-mail addresses; AWS takes at most 10"),
    ],
)
def test_a_budget_that_aws_refuses_is_refused(record: Record, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record(lambda: Budget("budget", replace(BUDGET, **change)))


def test_databases_start_and_stop_by_the_clock_of_the_market(record: Record) -> None:
    made = record(lambda: DatabaseSchedule("hours", HOURS))
    start, stop = made.one("Schedule", "hours-db-start"), made.one("Schedule", "hours-db-stop")
    assert start["scheduleExpression"] == "cron(0 7 ? * MON-FRI *)"
    assert stop["scheduleExpression"] == "cron(0 19 ? * MON-FRI *)"
    assert {start["scheduleExpressionTimezone"], stop["scheduleExpressionTimezone"]} == {"America/New_York"}
    assert start["target"]["arn"] == "arn:aws:scheduler:::aws-sdk:rds:startDBInstance"
    assert stop["target"]["arn"] == "arn:aws:scheduler:::aws-sdk:rds:stopDBInstance"
    assert json.loads(stop["target"]["input"]) == {"DbInstanceIdentifier": "db"}


def test_the_schedule_may_start_and_stop_its_databases_only(record: Record) -> None:
    made = record(lambda: DatabaseSchedule("hours", HOURS))
    assert json.loads(made.one("RolePolicy")["policy"])["Statement"] == [
        {
            "Effect": "Allow",
            "Action": ["rds:StartDBInstance", "rds:StopDBInstance"],
            "Resource": ["arn:aws:rds:eu-west-1:123456789012:db:db"],
        },
        {"Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": ["arn:key"]},
    ]
    assumed = json.loads(made.one("Role")["assumeRolePolicy"])["Statement"][0]
    assert assumed["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    assert made.one("Schedule", "hours-db-stop")["kmsKeyArn"] == "arn:key"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stop": "0 19 * * *"}, r"stop '0 19 \* \* \*' is no AWS cron expression"),
        ({"zone": "New York"}, "zone 'New York' is no IANA time zone"),
    ],
)
def test_hours_that_aws_refuses_are_refused(record: Record, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record(lambda: DatabaseSchedule("hours", replace(HOURS, **change)))
