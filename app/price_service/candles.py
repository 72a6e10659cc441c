"""The channels `candles:1m` to `candles:1d`: the candle of a symbol that takes trades now.

A candle begins long before a client asks for it. So its first part comes from market-data, which says up to
which tick it counts, and is continued here with the ticks behind that one: exactly, or not at all. Ticks wait
until the two parts meet. Where ticks are missing, the candle is taken from market-data again.

Only streams with subscribers are followed. What is left by its last one is followed for a minute more, for
clients that come back.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from prometheus_client import Counter, Gauge

from app.events.prices import PriceTick
from app.instruments import INSTRUMENTS
from app.kit import logs
from app.kit.errors import Unavailable
from app.market_data.candles import Candle, start_of
from app.price_service.frames import frame
from app.price_service.hub import Hub
from app.price_service.streams import Entry, Position, channel_of, name, symbol_of

INTERVALS: Final[Mapping[str, int]] = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "1h": 3600,
    "4h": 14_400,
    "1d": 86_400,
}
"""Seconds of each interval."""
_PREFIX: Final = "candles:"
_MOST_WAITING: Final = 5000
"""Ticks of a symbol that wait for market-data, which is behind by a second or two."""
_LINGER_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 0.5
"""Between two questions to market-data about a symbol whose parts do not meet yet."""
_OUTAGE_SECONDS: Final = 2.0
"""Between two questions to market-data while it does not answer."""
_log = logs.get(__name__)
_followed = Gauge("candle_streams_followed", "Streams of candles that are kept up to date")
_bases = Counter("candle_bases_total", "Answers of market-data by what came of them", ["outcome"])


@dataclass(frozen=True)
class Base:
    """The candles of a symbol as market-data counts them."""

    as_of: Position
    """The last tick that they count."""
    candles: Mapping[str, Candle]
    """Interval → the candle that the newest minute is in."""


Fetch = Callable[[str], Awaitable[Base | None]]
"""Asks for the base of a symbol; None while it has none. Raises Unavailable."""


class _Symbol:
    """The streams of one symbol, all at the place of its last tick."""

    def __init__(self, place: Position | None) -> None:
        self.place = place
        """The last tick taken; None where none is known."""
        self.minute = 0
        """Start of the newest minute; ticks of earlier ones are counted nowhere."""
        self.running: dict[str, Candle] = {}
        """Interval → its candle, of those that are known."""
        self.pending: set[str] = set()
        """Intervals whose first part is to come."""
        self.before: Position | None = place
        """The tick before those that wait."""
        self.waiting: list[PriceTick] = []
        self.unwanted: dict[str, float] = {}
        """Interval → when it was seen to have no subscriber."""

    def interrupt(self) -> None:
        """Forget what cannot be continued: the next tick does not follow."""
        self.pending |= self.running.keys()
        self.running.clear()
        self.before = None
        self.waiting.clear()

    def take(self, tick: PriceTick) -> dict[str, Candle]:
        """Continue the known candles; returns those that the tick finished."""
        minute = start_of(tick.at)
        self.place = Position(tick.epoch, tick.seq)
        if minute < self.minute:
            return {}
        self.minute = minute
        return {
            interval: ended for interval in self.running if (ended := _count(self.running, interval, tick))
        }

    def keep(self, tick: PriceTick) -> None:
        """Let a tick wait; the oldest ones go when they are too many, for no base can be so old."""
        self.waiting.append(tick)
        if len(self.waiting) > _MOST_WAITING:
            last = self.waiting[-1]
            self.before = Position(last.epoch, last.seq)
            self.waiting.clear()

    def join(self, base: Base) -> list[str] | None:
        """Put both parts of the pending candles together; None where they do not meet yet."""
        places = [Position(tick.epoch, tick.seq) for tick in self.waiting]
        if base.as_of in places:
            rest = self.waiting[places.index(base.as_of) + 1 :]
        elif base.as_of == self.before:
            rest = self.waiting
        else:
            return None
        joined = sorted(self.pending & base.candles.keys())
        candles = {interval: replace(base.candles[interval]) for interval in joined}
        minute = base.candles["1m"].start
        for tick in rest:
            if start_of(tick.at) >= minute:
                minute = start_of(tick.at)
                for interval in candles:
                    _count(candles, interval, tick)
        self.running |= candles
        self.minute = minute
        self.place = Position(rest[-1].epoch, rest[-1].seq) if rest else (self.place or base.as_of)
        self.pending.difference_update(joined)
        if not self.pending:
            self.before = None
            self.waiting = []
        return joined


def _count(candles: dict[str, Candle], interval: str, tick: PriceTick) -> Candle | None:
    """Count a tick in the candle of an interval; returns the one that it finished."""
    candle, start = candles[interval], start_of(tick.at, INTERVALS[interval])
    if start == candle.start:
        candle.add(tick)
        return None
    candle.closed = True
    candles[interval] = Candle.begin(tick, start)
    return candle


class Candles:
    """The candles that somebody follows; see `Channel`. `clock` is monotonic time in seconds."""

    names = tuple(f"{_PREFIX}{interval}" for interval in INTERVALS)

    def __init__(
        self,
        hub: Hub,
        latest: Mapping[str, PriceTick],
        fetch: Fetch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`latest` is the newest tick of each symbol, as the source of `take` has it."""
        self._hub = hub
        self._latest = latest
        self._fetch = fetch
        self._clock = clock
        self._symbols: dict[str, _Symbol] = {}
        self._asked = asyncio.Event()

    def snapshot(self, streams: Sequence[str], reason: str) -> list[bytes]:
        """See `Channel`. A stream that was not followed is from now on: its candle comes when it is known."""
        frames = []
        for stream in streams:
            interval, symbol = _parts(stream)
            state = self._follow(interval, symbol)
            if state is not None and state.place is not None and interval in state.running:
                told = _message("candleSnapshot", stream, state.place, interval, state.running[interval])
                frames.append(frame({**told, "reason": reason}))
        return frames

    def take(self, ticks: Sequence[PriceTick]) -> None:
        """Continue the candles by new ticks, oldest first; symbols that nobody follows cost nothing."""
        entries: list[Entry] = []
        for tick in ticks:
            state = self._symbols.get(tick.symbol)
            if state is not None:
                entries += self._take(state, tick)
        if entries:
            self._hub.publish(entries)

    async def run(self) -> None:
        """Get from market-data what is asked for, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            found = await asyncio.gather(*(self._complete(symbol) for symbol in self._incomplete()))
            failures = [error for error in found if error is not None]
            if failures:
                _log.warning("candles wait", symbols=len(failures), reason=str(failures[0]))
            if self._incomplete():
                self._asked.set()
                await asyncio.sleep(_OUTAGE_SECONDS if failures else _AGAIN_SECONDS)

    def tidy(self) -> None:
        """Follow no longer what has had no subscriber for a while."""
        now = self._clock()
        for symbol, state in list(self._symbols.items()):
            for interval in {*state.running, *state.pending}:
                stream = name(f"{_PREFIX}{interval}", symbol)
                if self._hub.wanted(stream):
                    state.unwanted.pop(interval, None)
                elif now - state.unwanted.setdefault(interval, now) >= _LINGER_SECONDS:
                    self._leave(state, interval, stream)
            if not state.running and not state.pending:
                del self._symbols[symbol]

    async def keep_tidy(self) -> None:
        """Tidy now and then, until cancelled."""
        while True:
            await asyncio.sleep(_LINGER_SECONDS / 4)
            self.tidy()

    def _follow(self, interval: str, symbol: str) -> _Symbol | None:
        if interval not in INTERVALS or symbol not in INSTRUMENTS:
            return None
        state = self._symbols.get(symbol)
        if state is None:
            tick = self._latest.get(symbol)
            state = _Symbol(None if tick is None else Position(tick.epoch, tick.seq))
            self._symbols[symbol] = state
        if interval not in state.running and interval not in state.pending:
            if not state.pending:
                state.before, state.waiting = state.place, []
            state.pending.add(interval)
            _followed.inc()
            self._asked.set()
        return state

    def _leave(self, state: _Symbol, interval: str, stream: str) -> None:
        state.running.pop(interval, None)
        state.pending.discard(interval)
        state.unwanted.pop(interval, None)
        self._hub.forget(stream)
        _followed.dec()

    def _take(self, state: _Symbol, tick: PriceTick) -> Iterable[Entry]:
        place = state.place
        if place is None or tick.epoch != place.epoch or tick.seq != place.seq + 1:
            state.interrupt()
            self._asked.set()
        if state.pending:
            state.keep(tick)
        finished = state.take(tick)
        return [
            self._entry(tick.symbol, state, interval, tick.at, finished.get(interval))
            for interval in state.running
        ]

    def _entry(
        self, symbol: str, state: _Symbol, interval: str, at_ms: int, finished: Candle | None
    ) -> Entry:
        stream, place = name(f"{_PREFIX}{interval}", symbol), state.place
        assert place is not None  # noqa: S101 - the tick that was taken just now
        message = _message("candle", stream, place, interval, state.running[interval])
        if finished is not None:
            message["finished"] = _body(finished)
        return Entry(stream, place.epoch, place.seq, at_ms, frame(message))

    def _incomplete(self) -> list[str]:
        return [symbol for symbol, state in self._symbols.items() if state.pending]

    async def _complete(self, symbol: str) -> Unavailable | None:
        """Try to complete the candles of a symbol; returns what kept market-data from answering."""
        try:
            base = await self._fetch(symbol)
        except Unavailable as error:
            _bases.labels("unavailable").inc()
            return error
        state = self._symbols.get(symbol)
        joined = state.join(base) if state is not None and base is not None else None
        _bases.labels("joined" if joined else "apart").inc()
        if state is not None and joined:
            self._publish_whole(symbol, state, joined)
        return None

    def _publish_whole(self, symbol: str, state: _Symbol, joined: Sequence[str]) -> None:
        place, now = state.place, int(time.time() * 1000)
        assert place is not None  # noqa: S101 - known since the parts were joined
        entries = []
        for interval in joined:
            stream = name(f"{_PREFIX}{interval}", symbol)
            told = _message("candleSnapshot", stream, place, interval, state.running[interval])
            data = frame({**told, "reason": "resync"})
            entries.append(Entry(stream, place.epoch, place.seq, now, data, reset=True))
        self._hub.publish(entries)


def _parts(stream: str) -> tuple[str, str]:
    return channel_of(stream).removeprefix(_PREFIX), symbol_of(stream)


def _message(kind: str, stream: str, place: Position, interval: str, candle: Candle) -> dict[str, Any]:
    return {
        "type": kind,
        "stream": stream,
        "epoch": place.epoch,
        "seq": place.seq,
        "interval": interval,
        **_body(candle),
    }


def _body(candle: Candle) -> dict[str, Any]:
    """A candle as clients see it: decimal strings, its start in Unix milliseconds."""
    instrument = INSTRUMENTS[candle.symbol]
    return {
        "start": candle.start * 1000,
        "open": str(instrument.price(candle.open)),
        "high": str(instrument.price(candle.high)),
        "low": str(instrument.price(candle.low)),
        "close": str(instrument.price(candle.close)),
        "volume": str(instrument.quantity(candle.volume)),
        "trades": candle.trades,
        "closed": candle.closed,
    }
