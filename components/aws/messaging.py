"""Queues for work that may wait, topics for what several want to hear, and who gets what."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.alerts import Alarm, make_alarm
from components.aws.dead_letters import QUEUE_NAME_LIMIT, make_dead_letters, only_tls, protect_queue
from components.aws.identity import Statement, policy
from components.aws.scope import Scope

_VISIBILITY_FACTOR = 6
"""Lambda asks for a visibility timeout of six times the function's: it may be throttled and try again."""
_LONG_POLL_SECONDS = 20
_DAY = 86_400
_TOPIC_NAME_LIMIT = 256


@dataclass(frozen=True)
class QueueSpec:
    """A queue and the pace of its consumer."""

    name: str
    """Last part of its name."""
    consumer_seconds: int = 30
    """Longest time that a consumer takes for one batch; the visibility timeout is six times as long."""
    attempts: int = 5
    """Deliveries after which a message is moved to the dead letters."""
    oldest_seconds: int = 900
    """Age of the oldest message above which an alarm is raised."""
    keep_days: int = 4
    """Days after which a message that nobody took is lost, 1 to 14."""


QUEUES: tuple[QueueSpec, ...] = (
    QueueSpec("notification"),
    QueueSpec("report", consumer_seconds=120, oldest_seconds=1800),
    QueueSpec("withdrawal", oldest_seconds=300, keep_days=14),
    QueueSpec("price-alert", oldest_seconds=300, keep_days=1),
)
"""The platform's queues."""

TOPICS: tuple[str, ...] = ("trade", "price-alert", "system")
"""The platform's topics; each is fanned out to the queue `notification`."""

MESSAGE_TYPES: tuple[str, ...] = ("SendAlert", "SendConfirmation")
"""Values of the message attribute `type` with which a message is one for a user."""

_UNDELIVERED = "undelivered"
"""Dead letters of the subscriptions: what SNS could not hand over to a queue."""


@dataclass(frozen=True)
class MessagingArgs:
    """All queues and topics of a stack."""

    scope: Scope
    """Names and account."""
    key_arn: Input[str]
    """Key of queues and topics; its policy must let `sns.amazonaws.com` use it."""
    alerts_topic_arn: Input[str]
    """Where alarms go."""
    emails: Sequence[str] = ()
    """Addresses that hear of system warnings; each must confirm its subscription once."""
    sms: Sequence[str] = ()
    """Numbers such as `+15550100`, which hear of critical system messages only."""
    queues: Sequence[QueueSpec] = QUEUES
    """The queues; `notification` is among them."""


class Messaging(ComponentResource):
    """Encrypted queues with dead letters and alarms, and topics that are fanned out to them."""

    queue_urls: dict[str, Output[str]]
    """Queue → URL."""
    queue_arns: dict[str, Output[str]]
    """Queue → ARN."""
    dead_letter_arns: dict[str, Output[str]]
    """Queue → ARN of its dead letters."""
    topic_arns: dict[str, Output[str]]
    """Topic → ARN."""
    queue_names: dict[str, str]
    """Queue → full name, without those of dead letters."""

    def __init__(self, name: str, args: MessagingArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Messaging", name, None, opts)
        self._args = args
        self.queue_urls, self.queue_arns, self.dead_letter_arns, self.topic_arns = {}, {}, {}, {}
        self.queue_names = {
            spec.name: args.scope.name(spec.name, limit=QUEUE_NAME_LIMIT) for spec in args.queues
        }
        publishers = [
            args.scope.arn("sns", args.scope.name(topic, limit=_TOPIC_NAME_LIMIT)) for topic in TOPICS
        ]
        for spec in args.queues:
            self._make_queue(spec, publishers if spec.name == "notification" else [])
        undelivered = self._dead_letters(_UNDELIVERED, allow=_from_topics(publishers))
        for topic in TOPICS:
            self._make_topic(topic, undelivered.arn)
        for number, email in enumerate(args.emails):
            told = {"severity": ["warning", "critical"]}
            self._subscribe(f"system-email-{number}", "system", "email", email, filter_policy=told)
        for number, phone in enumerate(args.sms):
            self._subscribe(
                f"system-sms-{number}", "system", "sms", phone, filter_policy={"severity": ["critical"]}
            )
        self.register_outputs({"queue_urls": self.queue_urls, "topic_arns": self.topic_arns})

    def _make_queue(self, spec: QueueSpec, publishers: Sequence[str]) -> None:
        scope, child = self._args.scope, ResourceOptions(parent=self)
        queue_name = scope.name(spec.name, limit=QUEUE_NAME_LIMIT)
        arn = scope.arn("sqs", queue_name)
        dead = self._dead_letters(f"{spec.name}-dead", source_arn=arn)
        queue = aws.sqs.Queue(
            spec.name,
            name=queue_name,
            kms_master_key_id=self._args.key_arn,
            visibility_timeout_seconds=spec.consumer_seconds * _VISIBILITY_FACTOR,
            receive_wait_time_seconds=_LONG_POLL_SECONDS,
            message_retention_seconds=spec.keep_days * _DAY,
            redrive_policy=Output.json_dumps(
                {"deadLetterTargetArn": dead.arn, "maxReceiveCount": spec.attempts}
            ),
            tags=scope.tags(queue_name),
            opts=child,
        )
        allow = _from_topics(publishers) if publishers else None
        protect_queue(spec.name, queue, arn, allow, parent=self)
        make_alarm(
            f"{spec.name}-oldest",
            Alarm(
                "AWS/SQS",
                "ApproximateAgeOfOldestMessage",
                {"QueueName": queue_name},
                above=spec.oldest_seconds,
                statistic="Maximum",
            ),
            scope=scope,
            topic_arn=self._args.alerts_topic_arn,
            what=f"A message waits in the queue {queue_name} for more than {spec.oldest_seconds} s",
            parent=self,
        )
        self.queue_urls[spec.name], self.queue_arns[spec.name] = queue.url, queue.arn
        self.dead_letter_arns[spec.name] = dead.arn

    def _dead_letters(
        self, name: str, *, source_arn: str | None = None, allow: Statement | None = None
    ) -> aws.sqs.Queue:
        return make_dead_letters(
            name,
            scope=self._args.scope,
            key_arn=self._args.key_arn,
            alerts_topic_arn=self._args.alerts_topic_arn,
            parent=self,
            source_arn=source_arn,
            allow=allow,
        )

    def _make_topic(self, name: str, undelivered_arn: Output[str]) -> None:
        scope, child = self._args.scope, ResourceOptions(parent=self)
        topic_name = scope.name(name, limit=_TOPIC_NAME_LIMIT)
        topic = aws.sns.Topic(
            name,
            name=topic_name,
            kms_master_key_id=self._args.key_arn,
            tags=scope.tags(topic_name),
            opts=child,
        )
        aws.sns.TopicPolicy(
            name,
            arn=topic.arn,
            policy=policy([only_tls("sns:Publish", scope.arn("sns", topic_name))]),
            opts=child,
        )
        self.topic_arns[name] = topic.arn
        self._subscribe(
            f"{name}-notification",
            name,
            "sqs",
            self.queue_arns["notification"],
            filter_policy={"type": list(MESSAGE_TYPES)},
            raw=True,
            undelivered_arn=undelivered_arn,
        )

    def _subscribe(
        self,
        name: str,
        topic: str,
        protocol: str,
        endpoint: Input[str],
        *,
        filter_policy: dict[str, list[str]] | None = None,
        raw: bool = False,
        undelivered_arn: Output[str] | None = None,
    ) -> None:
        aws.sns.TopicSubscription(
            name,
            topic=self.topic_arns[topic],
            protocol=protocol,
            endpoint=endpoint,
            filter_policy=json.dumps(filter_policy) if filter_policy else None,
            raw_message_delivery=raw or None,
            redrive_policy=(
                Output.json_dumps({"deadLetterTargetArn": undelivered_arn}) if undelivered_arn else None
            ),
            opts=ResourceOptions(parent=self),
        )


def _from_topics(topics: Sequence[str]) -> Statement:
    """What lets SNS deliver messages of `topics`, and of no other; the resource is filled in by the queue."""
    return Statement(
        ("sqs:SendMessage",),
        (),
        {"ArnEquals": {"aws:SourceArn": list(topics)}},
        principals={"Service": "sns.amazonaws.com"},
        sid="Topics",
    )


def queue_reader(scope: Scope, queue_arn: Input[str], key_arn: Input[str]) -> list[Statement]:
    """What it takes to read messages of an encrypted queue and to delete or postpone them."""
    via = {"StringEquals": {"kms:ViaService": f"sqs.{scope.region}.amazonaws.com"}}
    actions = ("sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
    return [
        Statement((*actions, "sqs:ReceiveMessage"), (queue_arn,)),
        Statement(("kms:Decrypt",), (key_arn,), via),
    ]
