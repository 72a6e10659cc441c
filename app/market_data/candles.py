"""Ticks into one-minute candles, and gaps between candles filled: pure and exact."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.events.prices import PriceTick

MINUTE = 60


@dataclass
class Candle:
    """Open, high, low and close in ticks, volume in lots, of the trades from `start` to one minute later."""

    symbol: str
    start: int
    """Unix time in seconds."""
    open: int
    high: int
    low: int
    close: int
    volume: int
    trades: int
    closed: bool = False
    """A later minute of the symbol has been seen."""

    @classmethod
    def begin(cls, tick: PriceTick, start: int) -> "Candle":
        """The candle of one tick."""
        return cls(tick.symbol, start, tick.price, tick.price, tick.price, tick.price, tick.size, 1)

    def add(self, tick: PriceTick) -> None:
        """Count another tick."""
        self.high = max(self.high, tick.price)
        self.low = min(self.low, tick.price)
        self.close = tick.price
        self.volume += tick.size
        self.trades += 1


def start_of(at_ms: int, seconds: int = MINUTE) -> int:
    """Start, in Unix seconds, of the interval that a moment in milliseconds belongs to."""
    at = at_ms // 1000
    return at - at % seconds


class Aggregator:
    """Folds one symbol's ticks, in order, into candles."""

    def __init__(self, open_candle: Candle | None) -> None:
        """`open_candle` is what earlier ticks left unfinished."""
        self._current = open_candle
        self.changed: dict[int, Candle] = {}
        """Candles to be stored, by start."""
        self.closed: list[Candle] = []
        """Candles that were finished, oldest first."""
        self.late = 0
        """Ticks of minutes before the current candle: left out, finished candles stay as they are."""

    def add(self, tick: PriceTick) -> None:
        """Take one tick."""
        start = start_of(tick.at)
        current = self._current
        if current is not None and start < current.start:
            self.late += 1
            return
        if current is not None and start > current.start:
            current.closed = True
            self.changed[current.start] = current
            self.closed.append(current)
            current = None
        if current is None:
            self._current = current = Candle.begin(tick, start)
        else:
            current.add(tick)
        self.changed[current.start] = current


def unseen(ticks: Iterable[PriceTick], seen: Mapping[str, int]) -> list[PriceTick]:
    """Ticks not counted yet, each number of an epoch once; `seen` holds the last number by epoch."""
    marks = dict(seen)
    fresh = []
    for tick in ticks:
        if tick.seq > marks.get(tick.epoch, 0):
            fresh.append(tick)
            marks[tick.epoch] = tick.seq
    return fresh


def fill_gaps(
    found: Sequence[Candle], before: Candle | None, begin: int, end: int, seconds: int
) -> list[Candle]:
    """One candle for each interval of [begin, end): those without a trade stand at the last close.

    `found` are the candles of the range, oldest first; `before` is the newest one before it. Intervals before
    the first candle of all are left out: there was no price yet.
    """
    known = {candle.start: candle for candle in found}
    filled = []
    last = before
    for start in range(begin, end, seconds):
        candle = known.get(start)
        if candle is None and last is not None:
            price = last.close
            candle = Candle(last.symbol, start, price, price, price, price, 0, 0, closed=True)
        if candle is not None:
            filled.append(candle)
            last = candle
    return filled
