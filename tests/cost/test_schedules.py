"""Hours that market-hours schedules come to, and how they are found in a plan."""

import json
from decimal import Decimal

import pytest

from infra.cost import View, estimate
from infra.cost.schedules import times, weekly_average
from infra.plan import UNKNOWN
from infra.plan.model import PlannedResource
from tests.cost.plans import node_group, plan_of, resource

MONDAY, FRIDAY, DAY, HOUR = 1440, 5 * 1440, 1440, 60


@pytest.mark.parametrize(
    "expression", ["0 8 * * MON-FRI", "0 8 * * 1-5", "cron(0 8 ? * MON-FRI *)", "cron(0 8 ? * 2-6 *)"]
)
def test_unix_and_eventbridge_count_days_differently(expression: str) -> None:
    assert times(expression) == [MONDAY + day * DAY + 8 * HOUR for day in range(5)]


def test_lists_steps_and_both_sundays() -> None:
    assert times("30 6,18 * * 0") == times("30 6,18 * * 7") == [6 * HOUR + 30, 18 * HOUR + 30]
    assert times("0 */12 * * 1") == [MONDAY, MONDAY + 12 * HOUR]


@pytest.mark.parametrize(
    "expression", ["", "0 8 1 * *", "0 8 * 6 *", "rate(1 day)", "0 25 * * *", "cron(0 8 ? * MON * )x"]
)
def test_what_is_no_weekly_schedule_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="'"):
        times(expression)


def test_average_wraps_around_the_week() -> None:
    # Off from Friday 20:00 to Monday 08:00: 60 of 168 hours.
    events = [(FRIDAY + 20 * HOUR, Decimal(0)), (MONDAY + 8 * HOUR, Decimal(7))]
    assert weekly_average(events) == Decimal(7) * 108 / 168


def _schedules(group: PlannedResource) -> list[PlannedResource]:
    token = "aws:autoscaling/schedule:Schedule"
    return [
        resource(
            token,
            name,
            {
                "autoscalingGroupName": UNKNOWN,
                "recurrence": cron,
                "timeZone": "America/New_York",
                "minSize": size,
                "maxSize": 3,
                "desiredCapacity": size,
            },
            needs={"autoscalingGroupName": group},
        )
        for name, cron, size in (("start", "0 8 * * MON-FRI", 2), ("stop", "0 20 * * MON-FRI", 0))
    ]


def test_scheduled_group_is_counted_by_its_hours() -> None:
    group = node_group(nodes=2, kind="m7g.large")
    found = estimate(plan_of(group, *_schedules(group)))
    instances, disks = found.lines
    assert instances.monthly_usd == pytest.approx(Decimal("119.136") * 60 / 168)
    assert "0.71 on average by schedule" in instances.what
    assert disks.monthly_usd == pytest.approx(Decimal("3.2") * 60 / 168)


def test_scheduled_group_saves_nothing_more_by_schedule_or_commitment() -> None:
    group = node_group(nodes=2)
    plan = plan_of(group, *_schedules(group))
    assert estimate(plan).saving_usd(View.SCHEDULE) == 0
    assert estimate(plan).saving_usd(View.SAVINGS_PLAN) == 0
    assert estimate(plan).saving_usd(View.SPOT) > 0


def test_usage_goes_with_the_nodes_that_run() -> None:
    group = node_group(nodes=7)
    vpc = resource("aws:ec2/vpc:Vpc", "vpc")
    always, scheduled = estimate(plan_of(group, vpc)), estimate(plan_of(group, vpc, *_schedules(group)))
    egress = [next(x for x in found.lines if "internet" in x.what).quantity for found in (always, scheduled)]
    # 7 nodes all month; 2 nodes for 60 of 168 hours are less than the one that is counted at least.
    assert egress == [350, 50]


def test_schedule_of_another_group_does_not_count() -> None:
    group, other = node_group("general"), node_group("other")
    found = estimate(plan_of(group, other, *_schedules(other)))
    assert [line.what for line in found.lines if "on average" in line.what] == [
        "1 x m7g.large, 0.71 on average by schedule"
    ]


def test_schedule_that_cannot_be_read_counts_as_always_on_and_is_noted() -> None:
    group = node_group()
    bad = resource(
        "aws:autoscaling/schedule:Schedule",
        "quarterly",
        {"recurrence": "0 8 1 */3 *", "desiredCapacity": 0},
        needs={"autoscalingGroupName": group},
    )
    found = estimate(plan_of(group, bad))
    assert found.lines[0].quantity == 730
    assert any("quarterly" in note for note in found.notes)


def _database_schedules(identifier: str) -> list[PlannedResource]:
    return [
        resource(
            "aws:scheduler/schedule:Schedule",
            f"db-{action}",
            {
                "scheduleExpression": f"cron(0 {hour} ? * MON-FRI *)",
                "target": {
                    "arn": f"arn:aws:scheduler:::aws-sdk:rds:{action}DBInstance",
                    "input": json.dumps({"DbInstanceIdentifier": identifier}),
                },
            },
        )
        for action, hour in (("start", 8), ("stop", 20))
    ]


def test_stopped_database_pays_its_storage_only() -> None:
    database = resource(
        "aws:rds/instance:Instance",
        "db",
        {"identifier": "tradestack-dev", "instanceClass": "db.t4g.medium", "allocatedStorage": 20},
    )
    found = estimate(plan_of(database, *_database_schedules("tradestack-dev")))
    hours, storage = found.lines[:2]
    assert hours.monthly_usd == pytest.approx(Decimal("47.45") * 60 / 168)
    assert "36% of the week" in hours.what
    assert storage.monthly_usd == Decimal("2.3")
    other = estimate(plan_of(database, *_database_schedules("another")))
    assert other.lines[0].monthly_usd == Decimal("47.45")
