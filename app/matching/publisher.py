"""Brings what was decided to the bus: in order for each symbol, at least once, behind the acknowledgement."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from app.events.envelope import Envelope
from app.events.matching import MatchingOutput
from app.events.registry import topic_of
from app.kit import logs
from app.kit.bus import Bus, Record
from app.kit.errors import Unavailable
from app.matching import metrics
from app.matching.books import Applied
from app.matching.sessions import session_envelopes
from app.matching.translate import family_envelopes, output_envelope, parts

_AT_ONCE = 200
"""Batches of the journal that are published together."""
_PACE_SECONDS = 0.05
"""Between two turns: what comes meanwhile is published together."""
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    batch: int
    """0 for what is published again."""
    applied: Sequence[Applied]
    commands: int


class Publisher:
    """The queue in front of the bus; `most` is the number of commands from which it counts as full."""

    def __init__(self, bus: Bus, published: int, most: int) -> None:
        self._bus = bus
        self._most = most
        self._waiting: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._commands = 0
        self._tails: dict[object, tuple[str, list[Applied]]] = {}
        self.published = published
        """Every batch up to this one is on the bus."""

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nothing more may be acknowledged."""
        return self._commands >= self._most

    def add(self, batch: int, applied: Sequence[Applied]) -> None:
        """Publish what the next batch did, when its turn comes."""
        self._put(_Waiting(batch, applied, sum(len(one.outcomes) for one in applied)))
        for symbol, kept in self._tails.values():
            kept += [one for one in applied if one.output.symbol == symbol]

    def keep(self, symbol: str) -> object:
        """From now on keep what a symbol does, for `again`; returns what names it there."""
        key = object()
        self._tails[key] = symbol, []
        return key

    def again(self, key: object) -> None:
        """Publish what was kept once more, before all that comes after it, and keep no more."""
        _, kept = self._tails.pop(key)
        if kept:
            self._put(_Waiting(0, kept, 0))

    def drop(self, key: object) -> None:
        """Keep no more."""
        self._tails.pop(key, None)

    async def run(self) -> None:
        """Publish until cancelled; an outage of the bus is waited for."""
        while True:
            while not self._waiting:
                self._idle.set()
                self._news.clear()
                await self._news.wait()
            begun = time.monotonic()
            taken = [self._waiting[n] for n in range(min(len(self._waiting), _AT_ONCE))]
            await publish(self._bus, [one for waiting in taken for one in waiting.applied])
            for one in taken:
                self._waiting.popleft()
                self._commands -= one.commands
                self.published = max(self.published, one.batch)
            metrics.unpublished.set(self._commands)
            if not self._waiting:
                self._idle.set()
            if len(taken) < _AT_ONCE:
                await asyncio.sleep(begun + _PACE_SECONDS - time.monotonic())

    async def drain(self) -> None:
        """Return when everything is on the bus."""
        await self._idle.wait()

    def _put(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._commands += waiting.commands
        metrics.unpublished.set(self._commands)
        self._idle.clear()
        self._news.set()


async def publish(bus: Bus, applied: Sequence[Applied]) -> None:
    """Bring outputs and what follows from them to the bus, however long that takes."""
    by_topic: dict[str, list[Record]] = {}
    for one in applied:
        for envelope in _envelopes(one.output, one):
            record = Record(envelope.key, envelope.encode())
            by_topic.setdefault(topic_of(envelope.type), []).append(record)
    pause = _FIRST_PAUSE
    for topic, records in by_topic.items():
        while True:
            try:
                await bus.publish(topic, records)
                break
            except Unavailable as error:
                _log.warning("outputs wait for the bus", topic=topic, reason=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)


def _envelopes(output: MatchingOutput, applied: Applied) -> list[Envelope]:
    return [
        *(output_envelope(part) for part in parts(output)),
        *family_envelopes(output, applied.asked),
        *session_envelopes(output),
    ]
