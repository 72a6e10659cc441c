"""The SQS queue, off the event loop."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from app.kit.errors import Unavailable
from app.notification.schemas import Received

_BATCH = 10
_WAIT_SECONDS = 5
"""Length of a long poll: the process ends no sooner after it was told to."""
_LONGEST_VISIBILITY = 43_200


class Queue(Protocol):
    """A queue that hands a message out again until it is deleted."""

    async def ping(self) -> None:
        """Return when the queue answers; raises Unavailable."""

    async def receive(self) -> Sequence[Received]:
        """Up to ten messages, after a wait for the first; raises Unavailable."""

    async def delete(self, message: Received) -> None:
        """The message is done with; raises Unavailable."""

    async def postpone(self, message: Received, seconds: int) -> None:
        """The message comes again after `seconds`; raises Unavailable."""


class SqsQueue(Queue):
    """Amazon SQS."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    async def ping(self) -> None:
        """See `Queue`."""
        await self._call(self._client.get_queue_attributes, AttributeNames=["QueueArn"])

    async def receive(self) -> Sequence[Received]:
        """See `Queue`."""
        answer = await self._call(
            self._client.receive_message,
            MaxNumberOfMessages=_BATCH,
            WaitTimeSeconds=_WAIT_SECONDS,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return [
            Received(
                body=message["Body"],
                receipt=message["ReceiptHandle"],
                attempts=int(message["Attributes"]["ApproximateReceiveCount"]),
            )
            for message in answer.get("Messages", [])
        ]

    async def delete(self, message: Received) -> None:
        """See `Queue`."""
        await self._call(self._client.delete_message, ReceiptHandle=message.receipt)

    async def postpone(self, message: Received, seconds: int) -> None:
        """See `Queue`."""
        await self._call(
            self._client.change_message_visibility,
            ReceiptHandle=message.receipt,
            VisibilityTimeout=min(seconds, _LONGEST_VISIBILITY),
        )

    async def _call(self, operation: Callable[..., Any], **request: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

        try:
            return await asyncio.to_thread(operation, QueueUrl=self._url, **request)
        except (BotoCoreError, ClientError) as error:
            raise Unavailable("queue", error) from error


def connect(url: str) -> SqsQueue:
    """The queue of a URL such as `https://sqs.<region>.amazonaws.com/<account>/<name>`."""
    host = (urlsplit(url).hostname or "").split(".")
    region = host[1] if host[0] == "sqs" and len(host) > 2 else None
    return SqsQueue(aws_client("sqs", region), url)


def aws_client(service: str, region: str | None) -> Any:
    """A boto3 client that gives up in seconds; without a region the environment names it."""
    import boto3  # type: ignore[import-untyped]
    from botocore.config import Config  # type: ignore[import-untyped]

    config = Config(
        connect_timeout=3,
        read_timeout=_WAIT_SECONDS + 5,
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    return boto3.client(service, region_name=region, config=config)
