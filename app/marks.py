"""Marks: the price at which open positions are valued now, of every symbol, in memory."""

import time
from collections.abc import Callable, Iterable

from app.events.prices import PriceTick
from app.events.reading import payloads
from app.kit.bus import Bus
from app.kit.cache import Cache
from app.prices import read_latest

_TOPIC = "price.updates"
_BATCH = 2000


class Marks:
    """The last price of each symbol. `clock` is Unix time in seconds.

    A symbol without trading keeps its last price; `age` tells those who cannot use an old one.
    """

    def __init__(self, bus: Bus, cache: Cache, clock: Callable[[], float] = time.time) -> None:
        self._bus = bus
        self._cache = cache
        self._clock = clock
        self._ticks: dict[str, PriceTick] = {}

    async def load(self) -> None:
        """Take the prices that the cache has; before anything is served. Raises Unavailable."""
        self._take((await read_latest(self._cache)).values())

    async def follow(self) -> None:
        """Follow the price stream until cancelled.

        Raises:
            Unavailable: bus or cache are gone; to be started again. Prices stay as they were.
        """
        subscription = await self._bus.subscribe([_TOPIC], None)
        try:
            await self.load()  # only now: what was published between the two is not missed
            while True:
                self._take(payloads(await subscription.batch(_BATCH, seconds=1.0), PriceTick))
        finally:
            await subscription.close()

    def price(self, symbol: str) -> int | None:
        """The last price in ticks; None when none is known."""
        tick = self._ticks.get(symbol)
        return None if tick is None else tick.price

    def age(self, symbol: str) -> float | None:
        """Seconds since the trade that made the price; None when none is known."""
        tick = self._ticks.get(symbol)
        return None if tick is None else max(0.0, self._clock() - tick.at / 1000)

    def _take(self, ticks: Iterable[PriceTick]) -> None:
        for tick in ticks:
            known = self._ticks.get(tick.symbol)
            if known is None or _is_newer(tick, known):
                self._ticks[tick.symbol] = tick


def _is_newer(tick: PriceTick, known: PriceTick) -> bool:
    """Numbers count within an epoch; between epochs, times do."""
    return tick.seq > known.seq if tick.epoch == known.epoch else tick.at >= known.at
