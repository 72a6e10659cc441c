"""Following the output of the matching engine: every change has its effect once, in order, per symbol.

A consumer's place in a symbol is a row that changes in the transaction of the effect. So messages that come
again are dropped by their sequences, and a crash at any moment repeats or loses nothing. Where a sequence is
missing, nothing of the symbol is applied until the engine has published it again.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import Counter, Gauge
from pydantic import BaseModel, ValidationError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.matching import Answer, CommandRejected, MatchingOutput, OrderAccepted
from app.events.models import StreamPositionRow
from app.kit import logs
from app.kit.bus import Bus, Message
from app.kit.database import Database
from app.kit.errors import Unavailable

TOPIC = "matching.output"
BATCH = 200
"""Most messages that share a transaction."""
_WAIT_SECONDS = 1.0
_COMMIT_SECONDS = 1.0
"""Between two commits of offsets: places tell what was applied, offsets only where to read on."""
_ASK_SECONDS = 5.0
"""Between two looks for symbols that lack something, each of which is asked for again."""
_log = logs.get(__name__)
_gaps = Gauge("stream_gaps", "1 while changes of a symbol are missing", ["consumer", "symbol"])
_lag = Gauge("stream_lag_seconds", "Age of the newest command whose effect is in the database", ["consumer"])
_changes = Counter("stream_changes_total", "Changes applied", ["consumer"])
_repeated = Counter("stream_repeated_total", "Messages that were applied before", ["consumer"])
_skipped = Counter("stream_skipped_total", "Messages behind a gap", ["consumer"])

Handler = Callable[[AsyncSession, Sequence[MatchingOutput]], Awaitable[None]]
"""Applies outputs in the transaction of the session; it does not commit."""
Resync = Callable[[str, int], Awaitable[None]]
"""Has the changes of a symbol behind a sequence published again."""


class Unreadable(Exception):
    """A message of the stream is no output that this code knows. It is never skipped: its effect is owed."""


class _Envelope(BaseModel):
    """An event of the stream, checked in one pass."""

    type: Literal["MatchingOutput"]
    version: Literal[1]
    payload: MatchingOutput


async def follow(
    bus: Bus, database: Database, consumer: str, handler: Handler, resync: Resync, *, pace: float = 0.0
) -> None:
    """Give all that the engine decided to `handler`, once and in order for each symbol; run until cancelled.

    `consumer` names the places and the shared group. `handler` gets the new outputs of up to 200 messages in
    one transaction, and is not called when there are none. Offsets are committed some time after that.

    `pace` is the least time in seconds from one transaction to the next while there is no backlog: what comes
    meanwhile shares a transaction, which costs a busy follower far less.

    While changes are missing, `resync` is called every few seconds with the symbol and the last sequence that
    was applied; that it fails is logged and stops nothing.

    Raises:
        Unavailable: bus or database are gone, or `handler` says so; to be started again.
        Unreadable: a message is no output; nothing goes on until code comes that reads it.
        Exception: what `handler` raised. Nothing of its batch is kept, and it comes again.
    """
    follower = _Follower(database, consumer, handler, resync)
    subscription = await bus.subscribe([TOPIC], consumer)
    loop = asyncio.get_running_loop()
    committed = loop.time()
    newest: dict[int, Message] = {}
    try:
        while True:
            messages = await subscription.batch(BATCH, seconds=_WAIT_SECONDS)
            begun = loop.time()
            if messages:
                await follower.take([_output(message) for message in messages])
                newest |= {message.partition: message for message in messages}
            if newest and begun - committed >= _COMMIT_SECONDS:
                await subscription.commit([*newest.values()])
                newest, committed = {}, begun
            await follower.look_for_gaps()
            if messages and len(messages) < BATCH:
                await asyncio.sleep(begun + pace - loop.time())
    finally:
        await follower.close()
        if newest:
            with contextlib.suppress(Unavailable):
                await subscription.commit([*newest.values()])
        await subscription.close()


def _output(message: Message) -> MatchingOutput:
    try:
        output = _Envelope.model_validate_json(message.value).payload
        sequences = [change.sequence for change in output.changes]
        if not sequences or sequences != list(range(output.first, output.last + 1)):
            raise Unreadable(f"its changes are not those from {output.first} to {output.last}")
    except (ValidationError, Unreadable) as error:
        reason = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
        place = f"{message.topic} partition {message.partition} offset {message.offset}"
        _log.error("unreadable", place=place, reason=reason)
        raise Unreadable(f"{place}: {reason}") from error
    return output


@dataclass(frozen=True)
class Fitting:
    """What of some outputs can be applied."""

    outputs: list[MatchingOutput]
    places: dict[str, int]
    """Symbol → last sequence, once the outputs are applied; of every symbol that came."""
    seen: dict[str, int]
    """Symbol → largest sequence that came."""
    repeated: int
    skipped: int


def fitting(outputs: Iterable[MatchingOutput], places: Mapping[str, int]) -> Fitting:
    """Outputs behind the places, without what was applied before; those behind a gap are left out."""
    fresh: list[MatchingOutput] = []
    now = dict(places)
    seen: dict[str, int] = {}
    repeated = skipped = 0
    for output in outputs:
        symbol = output.symbol
        place = now.setdefault(symbol, 0)
        seen[symbol] = max(seen.get(symbol, 0), output.last)
        if output.last <= place:
            repeated += 1
        elif output.first > place + 1:
            skipped += 1
        else:
            fresh.append(_cut(output, place))
            now[symbol] = output.last
    return Fitting(fresh, now, seen, repeated, skipped)


def _cut(output: MatchingOutput, place: int) -> MatchingOutput:
    """The part of an output behind `place`, with the answers of the orders that were entered in it."""
    if output.first > place:
        return output
    entered = {
        change.order_id: change.sequence
        for change in output.changes
        if isinstance(change, OrderAccepted)
        or (isinstance(change, CommandRejected) and change.command == "place")
    }
    answers: list[Answer] = []
    sequence = 0
    for answer in output.answers:
        # The second order of a pair that was rejected is named by no change: it goes with the first.
        sequence = entered.get(answer.order_id, sequence)
        if sequence > place:
            answers.append(answer)
    return output.model_copy(
        update={
            "first": place + 1,
            "changes": output.changes[place + 1 - output.first :],
            "answers": tuple(answers),
        }
    )


@dataclass
class _Follower:
    database: Database
    consumer: str
    handler: Handler
    resync: Resync
    _missing: set[str] = field(default_factory=set)
    """Symbols that are known to lack something."""
    _asking: asyncio.Task[None] | None = None
    _asked_at: float = float("-inf")
    _looked: dict[str, int] = field(default_factory=dict)
    """Symbols that lacked something → their places then. While these move, what was asked for is coming: to
    ask again would bring all of it once more."""

    async def take(self, outputs: Sequence[MatchingOutput]) -> None:
        """Apply what is new, in one transaction."""
        async with self.database.transaction() as session:
            places = await self._lock(session, sorted({output.symbol for output in outputs}))
            found = fitting(outputs, places)
            if found.outputs or found.skipped:
                await self._save(session, found)
            if found.outputs:
                await self._handle(session, found.outputs)
        if found.outputs:
            _lag.labels(self.consumer).set(max(0.0, time.time() - found.outputs[-1].at / 1000))
        _changes.labels(self.consumer).inc(sum(len(output.changes) for output in found.outputs))
        _repeated.labels(self.consumer).inc(found.repeated)
        _skipped.labels(self.consumer).inc(found.skipped)
        self._note_gaps(found)

    async def _handle(self, session: AsyncSession, outputs: Sequence[MatchingOutput]) -> None:
        try:
            await self.handler(session, outputs)
        except Unavailable:
            raise
        except Exception as error:
            ranges = [f"{output.symbol}:{output.first}-{output.last}" for output in outputs]
            _log.error(
                "outputs are not applied", consumer=self.consumer, outputs=ranges[:20], reason=repr(error)
            )
            raise

    async def _lock(self, session: AsyncSession, symbols: Sequence[str]) -> dict[str, int]:
        """Places, locked to the end of the transaction; missing rows are made, for others to wait at."""
        mine = StreamPositionRow.consumer == self.consumer
        wanted = (
            select(StreamPositionRow.symbol, StreamPositionRow.sequence)
            .where(mine, StreamPositionRow.symbol.in_(symbols))
            .order_by(StreamPositionRow.symbol)
            .with_for_update()
        )
        found = dict((await session.execute(wanted)).all())
        if len(found) < len(symbols):
            rows = [
                {"consumer": self.consumer, "symbol": symbol, "sequence": 0, "seen": 0}
                for symbol in symbols
                if symbol not in found
            ]
            await session.execute(self.database.insert(StreamPositionRow).on_conflict_do_nothing(), rows)
            found = dict((await session.execute(wanted)).all())
        return found

    async def _save(self, session: AsyncSession, found: Fitting) -> None:
        insert = self.database.insert(StreamPositionRow)
        larger = func.greatest if self.database.is_postgresql else func.max
        changes = {
            "sequence": insert.excluded.sequence,
            "seen": larger(StreamPositionRow.seen, insert.excluded.seen),
        }
        rows = [
            {"consumer": self.consumer, "symbol": symbol, "sequence": found.places[symbol], "seen": seen}
            for symbol, seen in sorted(found.seen.items())
        ]
        saving = insert.on_conflict_do_update(index_elements=["consumer", "symbol"], set_=changes)
        await session.execute(saving, rows)

    def _note_gaps(self, found: Fitting) -> None:
        for symbol, seen in found.seen.items():
            place = found.places[symbol]
            if seen > place and symbol not in self._missing:
                self._missing.add(symbol)
                _gaps.labels(self.consumer, symbol).set(1)
                _log.error("gap", consumer=self.consumer, symbol=symbol, applied=place, seen=seen)
                self._asked_at = float("-inf")

    async def look_for_gaps(self) -> None:
        """Ask for what is missing when it is time to; the table tells, after a restart, too."""
        now = asyncio.get_running_loop().time()
        if now - self._asked_at < _ASK_SECONDS or (self._asking is not None and not self._asking.done()):
            return
        self._asked_at = now
        lacking = select(StreamPositionRow.symbol, StreamPositionRow.sequence).where(
            StreamPositionRow.consumer == self.consumer, StreamPositionRow.seen > StreamPositionRow.sequence
        )
        async with self.database.transaction(read_only=True) as session:
            found = dict((await session.execute(lacking)).all())
        for symbol in self._missing - found.keys():
            _gaps.labels(self.consumer, symbol).set(0)
            _log.info("gap closed", consumer=self.consumer, symbol=symbol)
        for symbol in found:
            _gaps.labels(self.consumer, symbol).set(1)
        self._missing = set(found)
        still = {symbol: place for symbol, place in found.items() if self._looked.get(symbol, place) == place}
        self._looked = found
        if still:
            self._asking = asyncio.create_task(self._ask(still))

    async def _ask(self, lacking: Mapping[str, int]) -> None:
        """Beside the following: the engine may need a while."""
        for symbol, place in sorted(lacking.items()):
            try:
                await self.resync(symbol, place)
            except Unavailable as error:
                _log.warning(
                    "not published again yet", consumer=self.consumer, symbol=symbol, reason=str(error)
                )
            except Exception:
                _log.exception("cannot be published again", consumer=self.consumer, symbol=symbol)

    async def close(self) -> None:
        """End what is under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
