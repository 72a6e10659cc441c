"""Ticks into one-minute candles: pure and exact."""

from collections.abc import Iterable
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

    def add(self, tick: PriceTick) -> None:
        """Take one tick. One that is older than the current candle still counts as a trade of it."""
        start = start_of(tick.at)
        current = self._current
        if current is not None and start > current.start:
            current.closed = True
            self.changed[current.start] = current
            self.closed.append(current)
            current = None
        if current is None:
            current = Candle(tick.symbol, start, tick.price, tick.price, tick.price, tick.price, 0, 0)
            self._current = current
        current.high = max(current.high, tick.price)
        current.low = min(current.low, tick.price)
        current.close = tick.price
        current.volume += tick.size
        current.trades += 1
        self.changed[current.start] = current


def unseen(ticks: Iterable[PriceTick], epoch: str | None, seq: int) -> list[PriceTick]:
    """Ticks after (epoch, seq), each number once; another epoch begins anew."""
    fresh = []
    for tick in ticks:
        if tick.epoch != epoch or tick.seq > seq:
            fresh.append(tick)
            epoch, seq = tick.epoch, tick.seq
    return fresh
