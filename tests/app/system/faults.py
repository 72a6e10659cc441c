"""Database and bus of one simulated process, which can be killed between any two of its steps."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.bus import Bus, Message, Record, Subscription, Topic
from app.kit.database import Database
from app.kit.errors import Unavailable

TOPIC = "matching.output"


class Killed(BaseException):
    """The process is dead: no code of it may catch this and go on."""


@dataclass
class Process:
    """One process. `fuse` steps from now it dies, unless that is None."""

    name: str
    fuse: int | None = None
    dead: bool = False
    steps: int = 0

    def step(self) -> None:
        """Between two steps: the moment to die."""
        self.steps += 1
        if self.fuse is not None:
            self.fuse -= 1
            self.dead = self.dead or self.fuse <= 0
        if self.dead:
            raise Killed(self.name)


class MortalDatabase(Database):
    """A database seen by a process that may die before, in and behind every transaction."""

    def __init__(self, url: str, process: Process) -> None:
        super().__init__(url)
        self._process = process

    @asynccontextmanager
    async def transaction(self, *, read_only: bool = False) -> AsyncIterator[AsyncSession]:
        self._process.step()
        async with super().transaction(read_only=read_only) as session:
            yield session
            self._process.step()
        self._process.step()


@dataclass
class Log:
    """What was published, by symbol in order; no retention."""

    messages: dict[str, list[bytes]] = field(default_factory=dict)


class Pause(Exception):
    """A follower has read what it was given."""


@dataclass
class _Given(Subscription):
    process: Process
    given: list[Message]
    is_read: bool = False

    async def batch(self, limit: int, seconds: float, gather: float = 0.0) -> list[Message]:
        if self.is_read:
            raise Pause
        self.is_read = True
        return self.given

    async def commit(self, messages: Sequence[Message]) -> None:
        self.process.step()

    async def close(self) -> None:
        return


class SimulatedBus(Bus):
    """The bus as one process sees it: it may be away, and the process may die around a publication."""

    def __init__(self, log: Log, process: Process, pick: random.Random) -> None:
        self._log = log
        self._process = process
        self._pick = pick
        self.away = 0.0
        """Share of publications that fail."""
        self.given: list[Message] = []
        """What the next subscription reads, once."""

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        self._process.step()
        if self._pick.random() < self.away:
            raise Unavailable("bus", "away")
        if topic == TOPIC:
            for record in records:
                self._log.messages.setdefault(record.key, []).append(record.value)
        self._process.step()

    async def subscribe(self, topics: Sequence[str], group: str | None) -> Subscription:
        return _Given(self._process, self.given)

    async def ensure(self, topics: Sequence[Topic]) -> None:
        return

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        return


@dataclass
class Reader:
    """Where a consumer is in the log; what it reads next comes twice, late, out of order or not at all."""

    log: Log
    pick: random.Random
    offsets: dict[str, int] = field(default_factory=dict)

    def next(self, *, faults: bool) -> tuple[list[Message], dict[str, int]]:
        """Some messages, and the offsets once they are committed."""
        offsets = dict(self.offsets)
        found: list[Message] = []
        symbols = sorted(self.log.messages)
        self.pick.shuffle(symbols)
        if faults:
            symbols = symbols[: self.pick.randint(1, max(1, len(symbols)))]
        for symbol in symbols:
            start = offsets.get(symbol, 0)
            end = len(self.log.messages[symbol])
            if faults:
                chance = self.pick.random()
                if chance < 0.2:
                    start = max(0, start - self.pick.randint(1, 5))
                elif chance < 0.3:
                    start = min(end, start + 1)
                end = min(end, start + self.pick.randint(1, 8))
            values = self.log.messages[symbol][start:end]
            found += [Message(TOPIC, 0, start + n, symbol, value) for n, value in enumerate(values)]
            offsets[symbol] = max(end, self.offsets.get(symbol, 0))
        return found, offsets

    def is_at_end(self) -> bool:
        return all(self.offsets.get(symbol, 0) >= len(values) for symbol, values in self.log.messages.items())
