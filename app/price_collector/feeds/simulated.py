"""A market that is made up: correlated random walks with trading sessions and opening gaps."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from app.instruments import AssetClass, Calendar, Instrument
from app.price_collector.feeds import Feed, Quote

_YEAR_SECONDS = 365 * 24 * 3600.0
_STEP = timedelta(milliseconds=200)
_HISTORY_STEP = timedelta(seconds=20)
_LIVELINESS = 3.0
"""The walk is so many times livelier than the volatility says, so that a minute shows something."""
_MARKET_WEIGHT, _CLASS_WEIGHT, _OWN_WEIGHT = 0.45, 0.55, 0.70
"""Shares of the common, the asset class's and the own shock; their squares add up to about 1."""
_GAP = 0.004
"""Standard deviation of the logarithmic jump at an opening."""
_MAX_CHANGE = 0.05
_PULL = 0.01


def _last_open(calendar: Calendar, at: datetime) -> datetime:
    """The newest moment up to `at` with trading, to a quarter of an hour."""
    while not calendar.is_open(at):
        at -= timedelta(minutes=15)
    return at


class SimulatedFeed(Feed):
    """The same seed, start and moments give the same quotes."""

    def __init__(
        self,
        instruments: Iterable[Instrument],
        *,
        seed: int,
        rate: float,
        last_prices: Mapping[str, int] | None = None,
        history: timedelta = timedelta(0),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`rate` is the mean number of updates per second and symbol; goes on from `last_prices` (ticks)."""
        self._random = random.Random(seed)  # noqa: S311 - a simulation, repeatable on purpose
        self._rate = rate
        self._history = history
        self._clock = clock
        self._instruments = list(instruments)
        known = last_prices or {}
        self._prices = {
            i.symbol: float(known.get(i.symbol) or i.ticks(i.start_price)) for i in self._instruments
        }
        self._was_open: dict[Calendar, bool] = {}

    async def history(self) -> AsyncIterator[Sequence[Quote]]:
        """See `Feed`."""
        now = self._clock()
        at = now - self._history
        yield [self._quote(i, _last_open(i.calendar, at)) for i in self._instruments]
        while at < now - _HISTORY_STEP:
            yield self.step(at, _HISTORY_STEP.total_seconds(), probability=1.0)
            at += _HISTORY_STEP

    async def stream(self) -> AsyncIterator[Sequence[Quote]]:
        """See `Feed`."""
        seconds = _STEP.total_seconds()
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            yield self.step(self._clock(), seconds, probability=min(self._rate * seconds, 1.0))
            due = max(due + seconds, loop.time())
            await asyncio.sleep(due - loop.time())

    def step(self, at: datetime, seconds: float, probability: float) -> list[Quote]:
        """Move the market by `seconds`; each open symbol trades with `probability`."""
        gauss = self._random.gauss
        market = gauss(0, 1)
        shocks = {asset_class: gauss(0, 1) for asset_class in AssetClass}
        opened = {calendar: self._opening(calendar, at) for calendar in Calendar}
        scale = _LIVELINESS * math.sqrt(seconds / _YEAR_SECONDS)
        quotes = []
        for instrument in self._instruments:
            own = gauss(0, 1)
            trades = self._random.random() < probability
            if not self._was_open[instrument.calendar]:
                continue
            shock = (
                _MARKET_WEIGHT * market + _CLASS_WEIGHT * shocks[instrument.asset_class] + _OWN_WEIGHT * own
            )
            change = instrument.volatility * scale * shock
            if opened[instrument.calendar]:
                change += gauss(0, _GAP)
            self._move(instrument, max(-_MAX_CHANGE, min(_MAX_CHANGE, change)))
            if trades:
                quotes.append(self._quote(instrument, at))
        return quotes

    def _opening(self, calendar: Calendar, at: datetime) -> bool:
        """Whether the calendar's market has just opened; the first look at it is no opening."""
        is_open = calendar.is_open(at)
        was_open = self._was_open.get(calendar, is_open)
        self._was_open[calendar] = is_open
        return is_open and not was_open

    def _move(self, instrument: Instrument, change: float) -> None:
        start = float(instrument.ticks(instrument.start_price))
        price = self._prices[instrument.symbol]
        # A pull home that grows with the distance keeps months of running within reason.
        pull = _PULL * abs(change) * math.log(start / price)
        self._prices[instrument.symbol] = max(2.0, price * math.exp(change + pull))

    def _quote(self, instrument: Instrument, at: datetime) -> Quote:
        price = round(self._prices[instrument.symbol])
        half_spread = max(1, round(price * 0.00005 * (1 + self._random.random())))
        size = max(1, round(math.exp(self._random.gauss(0, 1.1)) * self._typical_lots(instrument, price)))
        return Quote(instrument.symbol, at, price, size, max(1, price - half_spread), price + half_spread)

    @staticmethod
    def _typical_lots(instrument: Instrument, price: int) -> float:
        """Lots worth about 5,000 of the currency."""
        return 5000.0 / float(instrument.price(price) * instrument.lot_size)
