"""The bus within one process."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

from app.kit.bus import Bus, Message, Record, Subscription, Topic
from app.kit.errors import Unavailable

_KEPT = 10_000
"""Messages kept of each partition; older ones are dropped, as a broker's retention does."""


@dataclass
class _Partition:
    messages: list[Message] = field(default_factory=list)
    first: int = 0
    """Offset of the oldest message kept."""

    @property
    def end(self) -> int:
        return self.first + len(self.messages)

    def append(self, topic: str, number: int, record: Record) -> None:
        self.messages.append(Message(topic, number, self.end, record.key, record.value))
        if len(self.messages) >= 2 * _KEPT:
            del self.messages[:_KEPT]
            self.first += _KEPT

    def read(self, offset: int, limit: int) -> list[Message]:
        start = max(offset - self.first, 0)
        return self.messages[start : start + limit]


class _MemorySubscription(Subscription):
    def __init__(self, bus: "MemoryBus", topics: Sequence[str], group: str | None) -> None:
        self.bus = bus
        self.topics = tuple(topics)
        self.group = group
        self.positions: dict[tuple[str, int], int] = {}
        self.news = asyncio.Event()

    async def batch(self, limit: int, seconds: float, gather: float = 0.0) -> list[Message]:
        found = self._read(limit) or await self._next(limit, seconds)
        if found and gather:
            clock = asyncio.get_running_loop().time
            end = clock() + gather
            while len(found) < limit and (left := end - clock()) > 0:
                found += await self._next(limit - len(found), left)
        return found

    async def _next(self, limit: int, seconds: float) -> list[Message]:
        """What comes within `seconds`, as soon as it does."""
        self.news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self.news.wait()
        except TimeoutError:
            return []
        return self._read(limit)

    def _read(self, limit: int) -> list[Message]:
        found: list[Message] = []
        for (topic, number), position in self.positions.items():
            messages = self.bus.partitions(topic)[number].read(position, limit - len(found))
            if messages:
                self.positions[topic, number] = messages[-1].offset + 1
                found += messages
        return found

    async def commit(self, messages: Sequence[Message]) -> None:
        if self.group is None:
            return
        committed = self.bus.committed[self.group]
        for message in messages:
            place = message.topic, message.partition
            if place in self.positions:
                committed[place] = max(committed.get(place, 0), message.offset + 1)

    async def close(self) -> None:
        self.bus.leave(self)


class MemoryBus(Bus):
    """Topics in memory, with partitions, groups and commits as a broker has them."""

    def __init__(self) -> None:
        self._topics: dict[str, list[_Partition]] = {}
        self._members: list[_MemorySubscription] = []
        self.committed: dict[str, dict[tuple[str, int], int]] = defaultdict(dict)
        """group → (topic, partition) → offset to go on from."""

    def partitions(self, topic: str) -> list[_Partition]:
        """The partitions of a topic that exists.

        Raises:
            Unavailable: it does not.
        """
        try:
            return self._topics[topic]
        except KeyError:
            raise Unavailable("bus", f"topic {topic} does not exist") from None

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        """See `Bus`."""
        partitions = self.partitions(topic)
        for record in records:
            number = crc32(record.key.encode()) % len(partitions)
            partitions[number].append(topic, number, record)
        for member in self._members:
            if topic in member.topics:
                member.news.set()

    async def subscribe(self, topics: Sequence[str], group: str | None) -> Subscription:
        """See `Bus`."""
        places = {(t, n): p.end for t in topics for n, p in enumerate(self.partitions(t))}
        member = _MemorySubscription(self, topics, group)
        self._members.append(member)
        if group is None:
            member.positions = places
        else:
            self._share_out(group)
        return member

    def leave(self, member: _MemorySubscription) -> None:
        """Take a member out and give its partitions to the others of its group."""
        if member in self._members:
            self._members.remove(member)
            member.positions = {}
            if member.group is not None:
                self._share_out(member.group)

    def _share_out(self, group: str) -> None:
        members = [m for m in self._members if m.group == group]
        before = [m.positions for m in members]
        for member in members:
            member.positions = {}
        for topic in {t for m in members for t in m.topics}:
            entitled = [(m, old) for m, old in zip(members, before, strict=True) if topic in m.topics]
            for number in range(len(self._topics[topic])):
                member, old = entitled[number % len(entitled)]
                place = topic, number
                member.positions[place] = old.get(place, self.committed[group].get(place, 0))
                member.news.set()

    async def ensure(self, topics: Sequence[Topic]) -> None:
        """See `Bus`."""
        for topic in topics:
            partitions = self._topics.setdefault(topic.name, [])
            partitions += [_Partition() for _ in range(topic.partitions - len(partitions))]

    async def ping(self) -> None:
        """See `Bus`."""

    async def close(self) -> None:
        """See `Bus`."""
        for member in list(self._members):
            self.leave(member)
