"""Databases that run in market hours only."""

import json
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.identity import Role, RoleArgs, Statement, trust
from components.aws.scope import Scope

_NAME_LIMIT = 64
_FIELDS = 6


@dataclass(frozen=True)
class DatabaseScheduleArgs:
    """When databases are started and stopped."""

    scope: Scope
    """Names and account."""
    identifiers: Sequence[str]
    """RDS instances. One that has a read replica, or is one, cannot be stopped."""
    start: str
    """Six fields of an AWS cron expression, such as `0 7 ? * MON-FRI *`."""
    stop: str
    """Six fields of an AWS cron expression. AWS itself starts an instance that was stopped for seven days."""
    zone: str
    """IANA time zone of both, such as `America/New_York`; daylight saving time is followed."""
    key_arn: Input[str]
    """Key of the schedules' data."""


class DatabaseSchedule(ComponentResource):
    """Schedules that call RDS directly, with a role that may do only this."""

    role_arn: Output[str]
    """ARN of the role."""

    def __init__(self, name: str, args: DatabaseScheduleArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:DatabaseSchedule", name, None, opts)
        _check(args)
        child = ResourceOptions(parent=self)
        databases = [args.scope.arn("rds", f"db:{identifier}") for identifier in args.identifiers]
        statements = (
            Statement(("rds:StartDBInstance", "rds:StopDBInstance"), databases),
            Statement(("kms:Decrypt",), (args.key_arn,)),
        )
        role = Role(
            name,
            RoleArgs(args.scope, trust("scheduler.amazonaws.com", args.scope, same_account=True), statements),
            child,
        )
        group_name = args.scope.name(name, limit=_NAME_LIMIT)
        group = aws.scheduler.ScheduleGroup(
            name, name=group_name, tags=args.scope.tags(group_name), opts=child
        )
        for identifier in args.identifiers:
            for action, cron in (("start", args.start), ("stop", args.stop)):
                aws.scheduler.Schedule(
                    f"{name}-{identifier}-{action}",
                    name=args.scope.name(identifier, action, limit=_NAME_LIMIT),
                    description=f"Database {identifier}: {action}",
                    group_name=group.name,
                    schedule_expression=f"cron({cron})",
                    schedule_expression_timezone=args.zone,
                    flexible_time_window={"mode": "OFF"},
                    kms_key_arn=args.key_arn,
                    target={
                        "arn": f"arn:{args.scope.partition}:scheduler:::aws-sdk:rds:{action}DBInstance",
                        "role_arn": role.arn,
                        "input": json.dumps({"DbInstanceIdentifier": identifier}),
                        "retry_policy": {
                            "maximum_event_age_in_seconds": 3600,
                            "maximum_retry_attempts": 5,
                        },
                    },
                    opts=ResourceOptions(parent=self, delete_before_replace=True),
                )
        self.role_arn = role.arn
        self.register_outputs({})


def _check(args: DatabaseScheduleArgs) -> None:
    for key, cron in (("start", args.start), ("stop", args.stop)):
        if len(cron.split()) != _FIELDS:
            raise ValueError(
                f"{key} '{cron}' is no AWS cron expression: minute hour day-of-month month day-of-week year"
            )
    if args.zone not in zoneinfo.available_timezones():
        raise ValueError(f"zone '{args.zone}' is no IANA time zone, such as America/New_York")
