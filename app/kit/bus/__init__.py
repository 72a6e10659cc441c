"""The message bus: what producers and consumers see, whichever broker carries it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """What is published: records of one key keep their order."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """What is received, with its place in the topic."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the broker keeps it."""

    name: str
    partitions: int
    retention_seconds: int


class Subscription(Protocol):
    """One consumer of some topics."""

    async def batch(self, limit: int, seconds: float, gather: float = 0.0) -> list[Message]:
        """Up to `limit` messages; waits at most `seconds` for the first one.

        `gather` is the time in seconds for which others are waited for after it: what was published together
        reaches a consumer in several parts.

        Raises:
            Unavailable: the subscription is broken and has to be opened anew.
        """

    async def commit(self, messages: Sequence[Message]) -> None:
        """Mark messages as done for the group; call it after their effect is durable.

        Raises:
            Unavailable: not stored; the messages may come again.
        """

    async def close(self) -> None:
        """Leave the group. What was not committed comes again to another member."""


class Bus(Protocol):
    """A broker of topics with partitions."""

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        """Return when every record is stored by the broker.

        Raises:
            Unavailable: some may not be stored; publishing them again is allowed.
        """

    async def subscribe(self, topics: Sequence[str], group: str | None) -> Subscription:
        """Join a shared group, which goes on where it left off, from the oldest message at first.

        Without a group every subscription reads the whole topics, from now on.

        Raises:
            Unavailable: the broker does not answer or a topic does not exist yet.
        """

    async def ensure(self, topics: Sequence[Topic]) -> None:
        """Create what is missing, add partitions, set the retention. Never removes anything.

        Raises:
            Unavailable: the broker does not answer.
        """

    async def ping(self) -> None:
        """Return when the broker answers.

        Raises:
            Unavailable: it does not.
        """

    async def close(self) -> None:
        """Close what is still subscribed, send what is pending and disconnect."""
