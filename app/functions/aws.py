"""What every function needs of AWS: clients, settings, batches and metrics."""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

from app.events.envelope import Envelope
from app.kit.errors import ConfigurationError

_log = logging.getLogger(__name__)
_NAMESPACE = "Tradestack"
_BATCH = 10
"""Most messages that SNS takes in one request."""


class S3(Protocol):
    """What the functions ask of boto3's S3 client."""

    def get_object(self, **request: Any) -> Any:
        """Read an object or a range of it."""

    def put_object(self, **request: Any) -> Any:
        """Write an object."""

    def put_object_tagging(self, **request: Any) -> Any:
        """Replace the tags of an object."""

    def get_paginator(self, operation_name: str, /) -> Any:
        """Pages of a listing."""


class Topics(Protocol):
    """What the functions ask of boto3's SNS client."""

    def publish(self, **request: Any) -> Any:
        """Publish one message."""

    def publish_batch(self, **request: Any) -> Any:
        """Publish up to ten messages."""


@cache
def client(service: str) -> Any:
    """The boto3 client of `service`, made once for each execution environment."""
    import boto3  # type: ignore[import-untyped]
    from botocore.config import Config  # type: ignore[import-untyped]

    config = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
    return boto3.client(service, config=config)


def setting(name: str) -> str:
    """Value of an environment variable.

    Raises:
        ConfigurationError: it is not set.
    """
    value = os.environ.get(name)
    if not value:
        raise ConfigurationError(f"{name} is not set: the stack sets it on the function")
    return value


def each_message(event: Mapping[str, Any], handle: Callable[[str], None]) -> dict[str, Any]:
    """Give the body of every SQS message of a batch to `handle`; the answer names those that failed.

    Only these come again, and after the queue's attempts they are dead letters.
    """
    failed = []
    for record in event["Records"]:
        try:
            handle(record["body"])
        except Exception:
            _log.exception("message %s failed", record["messageId"])
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def publish(topics: Topics, topic_arn: str, events: Sequence[Envelope]) -> None:
    """Publish events, each with its type as an attribute that subscriptions filter by.

    Raises:
        RuntimeError: SNS did not take all of them; to be repeated as a whole, readers know the ids.
    """
    for begin in range(0, len(events), _BATCH):
        entries = [
            {
                "Id": str(number),
                "Message": event.encode().decode(),
                "MessageAttributes": {"type": {"DataType": "String", "StringValue": event.type}},
            }
            for number, event in enumerate(events[begin : begin + _BATCH])
        ]
        answer = topics.publish_batch(TopicArn=topic_arn, PublishBatchRequestEntries=entries)
        if answer.get("Failed"):
            raise RuntimeError(f"{topic_arn} refused {len(answer['Failed'])} of {len(entries)} messages")


def emit(metrics: Mapping[str, float]) -> None:
    """Counts for CloudWatch, as a log line in its embedded metric format; the dimension is the function."""
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local")
    directive = {
        "Namespace": _NAMESPACE,
        "Dimensions": [["Function"]],
        "Metrics": [{"Name": name, "Unit": "Count"} for name in metrics],
    }
    aws = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    print(json.dumps({"_aws": aws, "Function": function, **metrics}), flush=True)
