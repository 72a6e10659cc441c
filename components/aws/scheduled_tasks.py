"""Jobs of the app on ECS, started by EventBridge Scheduler."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import Input, Resource, ResourceOptions

from app.roles import Role as AppRole
from components.aws.identity import Role, RoleArgs, Statement, trust
from components.aws.scope import Scope
from components.aws.task_definition import TaskParts

_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


@dataclass(frozen=True)
class JobPlace:
    """Where jobs run."""

    scope: Scope
    """Names and account."""
    cluster_name: str
    """Name of the ECS cluster."""
    cluster_arn: Input[str]
    """ARN of the ECS cluster."""
    subnet_ids: Sequence[Input[str]]
    """Private subnets."""
    security_group_id: Input[str]
    """Group of the tasks."""
    key_arn: Input[str]
    """Key of the schedules."""
    messaging_key_arn: Input[str]
    """Key of the queue of dead letters."""
    dead_letter_arn: Input[str]
    """Queue of the starts that failed for good."""


def make_job(place: JobPlace, role: AppRole, task: TaskParts, *, parent: Resource) -> None:
    """Start the task of a job when the role table says.

    Raises:
        ValueError: the role has no schedule.
    """
    if role.schedule is None:
        raise ValueError(f"job '{role.name}' has no schedule")
    scope, name, child = place.scope, role.name, ResourceOptions(parent=parent)
    starter = Role(
        f"schedule-{name}",
        RoleArgs(scope, trust("scheduler.amazonaws.com", scope, same_account=True), _starter(place, task)),
        child,
    )
    aws.scheduler.Schedule(
        name,
        name=scope.name(name, limit=64),
        description=role.summary,
        schedule_expression=schedule_expression(role.schedule),
        schedule_expression_timezone="UTC",
        flexible_time_window={"mode": "OFF"},
        kms_key_arn=place.key_arn,
        target={
            "arn": place.cluster_arn,
            "role_arn": starter.arn,
            "ecs_parameters": {
                "task_definition_arn": task.arn,
                "task_count": 1,
                "launch_type": "FARGATE",
                "platform_version": "LATEST",
                "enable_ecs_managed_tags": True,
                "propagate_tags": "TASK_DEFINITION",
                "network_configuration": {
                    "subnets": list(place.subnet_ids),
                    "security_groups": [place.security_group_id],
                    "assign_public_ip": False,
                },
            },
            "dead_letter_config": {"arn": place.dead_letter_arn},
            "retry_policy": {"maximum_retry_attempts": 3, "maximum_event_age_in_seconds": 3600},
        },
        opts=child,
    )


def _starter(place: JobPlace, task: TaskParts) -> list[Statement]:
    """What EventBridge Scheduler needs to start a job."""
    scope = place.scope

    def via(service: str) -> dict[str, dict[str, Input[str]]]:
        return {"StringEquals": {"kms:ViaService": f"{service}.{scope.region}.amazonaws.com"}}

    return [
        Statement(
            ("ecs:RunTask",),
            (scope.arn("ecs", f"task-definition/{task.family}:*"),),
            {"ArnEquals": {"ecs:cluster": place.cluster_arn}},
        ),
        Statement(
            ("ecs:TagResource",),
            (scope.arn("ecs", f"task/{place.cluster_name}/*"),),
            {"StringEquals": {"ecs:CreateAction": "RunTask"}},
        ),
        Statement(
            ("iam:PassRole",),
            task.role_arns,
            {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
        ),
        Statement(("sqs:SendMessage",), (place.dead_letter_arn,)),
        Statement(("kms:Decrypt", "kms:GenerateDataKey"), (place.messaging_key_arn,), via("sqs")),
        Statement(("kms:Decrypt",), (place.key_arn,), via("scheduler")),
    ]


def schedule_expression(cron: str) -> str:
    """Five fields of cron as EventBridge writes them.

    There one of the days is `?`, a year follows, and weekdays begin with 1 for Sunday, so names are used.

    Raises:
        ValueError: not five fields, days both of month and of week, or weekdays that are no plain numbers.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise ValueError(f"schedule '{cron}': five fields, minute hour day month weekday")
    minute, hour, day, month, weekday = fields
    if day != "*" and weekday != "*":
        raise ValueError(f"schedule '{cron}': EventBridge takes days of the month or of the week, not both")
    if weekday == "*":
        return f"cron({minute} {hour} {day} {month} ? *)"
    try:
        names = ",".join(
            "-".join(_WEEKDAYS[int(number)] for number in part.split("-")) for part in weekday.split(",")
        )
    except (ValueError, IndexError):
        raise ValueError(f"schedule '{cron}': weekdays are numbers 0 to 7, such as 1-5") from None
    return f"cron({minute} {hour} ? {month} {names} *)"
