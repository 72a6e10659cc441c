"""Queues for what has failed for good."""

import json

import pulumi_aws as aws
from pulumi import Input, Resource, ResourceOptions

from components.aws.alerts import Alarm, make_alarm
from components.aws.identity import Statement, policy
from components.aws.scope import Scope

QUEUE_NAME_LIMIT = 80
"""Most characters of a queue's name."""
_SECONDS = 14 * 86_400
"""The longest that SQS keeps a message."""


def make_dead_letters(
    name: str,
    *,
    scope: Scope,
    key_arn: Input[str],
    alerts_topic_arn: Input[str],
    parent: Resource,
    source_arn: str | None = None,
    allow: Statement | None = None,
) -> aws.sqs.Queue:
    """An encrypted queue that should be empty, with an alarm for when it is not.

    `source_arn` is the queue whose messages end here; without it none may, and services put messages in, by
    their roles or by what `allow` says (its resource is filled in here).
    """
    redrive = (
        {"redrivePermission": "byQueue", "sourceQueueArns": [source_arn]}
        if source_arn
        else {"redrivePermission": "denyAll"}
    )
    queue_name = scope.name(name, limit=QUEUE_NAME_LIMIT)
    queue = aws.sqs.Queue(
        name,
        name=queue_name,
        kms_master_key_id=key_arn,
        message_retention_seconds=_SECONDS,
        redrive_allow_policy=json.dumps(redrive),
        tags=scope.tags(queue_name),
        opts=ResourceOptions(parent=parent),
    )
    protect_queue(name, queue, scope.arn("sqs", queue_name), allow, parent=parent)
    make_alarm(
        f"{name}-letters",
        Alarm(
            "AWS/SQS",
            "ApproximateNumberOfMessagesVisible",
            {"QueueName": queue_name},
            above=0,
            statistic="Maximum",
            periods=1,
        ),
        scope=scope,
        topic_arn=alerts_topic_arn,
        what=f"There are dead letters in {queue_name}",
        parent=parent,
    )
    return queue


def protect_queue(
    name: str, queue: aws.sqs.Queue, arn: str, allow: Statement | None, *, parent: Resource
) -> None:
    """The policy of a queue: TLS only, and what `allow` says of it."""
    statements = [only_tls("sqs:*", arn)]
    if allow is not None:
        statements.append(
            Statement(allow.actions, (arn,), allow.conditions, principals=allow.principals, sid=allow.sid)
        )
    aws.sqs.QueuePolicy(
        name, queue_url=queue.url, policy=policy(statements), opts=ResourceOptions(parent=parent)
    )


def only_tls(action: str, arn: str) -> Statement:
    """Refuses connections that are not encrypted, whoever makes them."""
    return Statement(
        (action,),
        (arn,),
        {"Bool": {"aws:SecureTransport": "false"}},
        effect="Deny",
        principals={"AWS": "*"},
        sid="OnlyTls",
    )
