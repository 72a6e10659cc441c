"""The topic on which operators learn of alarms, and the alarms of the other components."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions

from components.aws.identity import Statement, policy
from components.aws.scope import Scope

_PUBLISHERS = (
    "backup.amazonaws.com",
    "budgets.amazonaws.com",
    "cloudwatch.amazonaws.com",
    "codestar-notifications.amazonaws.com",
    "costalerts.amazonaws.com",
    "events.amazonaws.com",
    "events.rds.amazonaws.com",
)
"""Services that tell operators something."""


@dataclass(frozen=True)
class AlertsArgs:
    """Who hears of alarms."""

    scope: Scope
    """Names and account."""
    key_arn: Input[str]
    """Key of the topic; its policy must let the publishing services use it."""
    emails: Sequence[str]
    """Addresses; each must confirm its subscription once."""


class Alerts(ComponentResource):
    """An encrypted SNS topic with e-mail subscriptions."""

    topic_arn: Output[str]
    """ARN of the topic."""

    def __init__(self, name: str, args: AlertsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Alerts", name, None, opts)
        child = ResourceOptions(parent=self)
        topic_name = args.scope.name(name)
        topic = aws.sns.Topic(
            name,
            name=topic_name,
            kms_master_key_id=args.key_arn,
            tags=args.scope.tags(topic_name),
            opts=child,
        )
        arn = args.scope.arn("sns", topic_name)
        own = {"StringEquals": {"aws:SourceAccount": args.scope.account}}
        allowed = Statement(
            ("sns:Publish",), (arn,), own, principals={"Service": list(_PUBLISHERS)}, sid="Services"
        )
        aws.sns.TopicPolicy(name, arn=topic.arn, policy=policy([allowed]), opts=child)
        for number, email in enumerate(args.emails):
            aws.sns.TopicSubscription(
                f"{name}-{number}", topic=topic.arn, protocol="email", endpoint=email, opts=child
            )
        self.topic_arn = topic.arn
        self.register_outputs({"topic_arn": self.topic_arn})


@dataclass(frozen=True)
class Alarm:
    """When a metric is out of bounds."""

    namespace: str
    """Namespace of the metric, such as `AWS/RDS`."""
    metric: str
    """Name of the metric."""
    dimensions: Mapping[str, Input[str]]
    """Dimensions of the metric."""
    above: float | None = None
    """Alarms above this value, in the metric's unit."""
    below: float | None = None
    """Alarms below this value; exactly one of the two is given."""
    statistic: str = "Average"
    """`Average`, `Sum`, `Maximum` or `Minimum` over a period."""
    period_seconds: int = 60
    """Length of a period."""
    periods: int = 5
    """Consecutive periods out of bounds before it alarms."""
    missing: str = "notBreaching"
    """What a period without data counts as: `notBreaching`, `breaching`, `ignore` or `missing`."""


def make_alarm(
    name: str, alarm: Alarm, *, scope: Scope, topic_arn: Input[str], what: str, parent: Resource
) -> aws.cloudwatch.MetricAlarm:
    """Create an alarm that tells the topic when it begins and when it ends; `what` says so in words.

    Raises:
        ValueError: not exactly one of `above` and `below` is given.
    """
    if (alarm.above is None) == (alarm.below is None):
        raise ValueError(f"alarm '{name}': give either above or below")
    alarm_name = scope.name(name, limit=255)
    return aws.cloudwatch.MetricAlarm(
        name,
        name=alarm_name,
        alarm_description=what,
        namespace=alarm.namespace,
        metric_name=alarm.metric,
        dimensions=alarm.dimensions,
        comparison_operator="GreaterThanThreshold" if alarm.above is not None else "LessThanThreshold",
        threshold=alarm.above if alarm.above is not None else alarm.below,
        statistic=alarm.statistic,
        period=alarm.period_seconds,
        evaluation_periods=alarm.periods,
        treat_missing_data=alarm.missing,
        alarm_actions=[topic_arn],
        ok_actions=[topic_arn],
        tags=scope.tags(alarm_name),
        opts=ResourceOptions(parent=parent),
    )
