"""The one source of price updates: feed → sequence numbers → cache → bus."""

import asyncio
from collections import deque
from collections.abc import Sequence

from prometheus_client import Counter, Gauge

from app.events.envelope import Envelope
from app.events.prices import PriceTick
from app.instruments import INSTRUMENTS
from app.kit import logs, web
from app.kit.bus import Bus, Record
from app.kit.cache import Cache
from app.kit.errors import Unavailable
from app.kit.runtime import Runtime
from app.price_collector.feeds import Quote
from app.price_collector.feeds.choice import choose
from app.price_collector.sequencer import Sequencer
from app.prices import read_latest, symbols_kept, write_latest

TOPIC = "price.updates"
_BUFFER = 5000
"""Ticks that wait for the bus; when more come, the oldest are dropped and readers see the gap."""
_BATCH = 500
_CACHE_PAUSE = 2.0
"""Seconds without a try after the cache did not answer."""

_log = logs.get(__name__)
_published = Counter("price_ticks_published_total", "Ticks stored by the bus")
_dropped = Counter("price_ticks_dropped_total", "Ticks dropped because the bus did not take them in time")
_waiting = Gauge("price_ticks_waiting", "Ticks that wait for the bus")
_epochs = Counter("price_epochs_total", "Epochs begun")


class Collector:
    """Takes quotes of a feed and publishes them as numbered ticks; goes on without bus or cache.

    The cache is written before the bus: a tick that the cache knows may never have been published, which
    readers see as a gap; the other way round a restart would give a number out twice. When the cache cannot
    be written a new epoch begins, which it never hears of, so that resuming from its old content cannot
    repeat a number either.
    """

    def __init__(self, bus: Bus, cache: Cache) -> None:
        self._bus = bus
        self._cache = cache
        self._sequencer = Sequencer({})
        self._cache_holds_epoch = True
        self._cache_retry_at = 0.0
        self._buffer: deque[PriceTick] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def resume(self) -> dict[str, PriceTick]:
        """Go on from the ticks in the cache; returns them, empty for a new start."""
        latest = await read_latest(self._cache)
        known = {symbol: tick for symbol, tick in latest.items() if symbol in INSTRUMENTS}
        self._sequencer = Sequencer(known)
        if known and await symbols_kept(self._cache) - latest.keys():
            self._sequencer.new_epoch()  # in the old one, those that cannot be read would be numbered twice
        _epochs.inc(0 if known else 1)
        _log.info("resumed" if known else "new epoch", epoch=self._sequencer.epoch, symbols=len(known))
        return known

    async def take(self, quotes: Sequence[Quote], *, wait: bool = False) -> None:
        """Number quotes and queue them; with `wait`, wait for room instead of dropping the oldest."""
        if not quotes:
            return
        while wait and len(self._buffer) > _BUFFER - len(quotes):
            self._room.clear()
            await self._room.wait()
        ticks = await self._remember(self._sequencer.number(quotes))
        self._buffer.extend(ticks)
        self._trim()
        self._news.set()

    async def _remember(self, ticks: list[PriceTick]) -> list[PriceTick]:
        """Write ticks to the cache, or renumber them in an epoch that the cache does not know."""
        now = asyncio.get_running_loop().time()
        if now >= self._cache_retry_at:
            try:
                await write_latest(self._cache, ticks)
            except Unavailable as error:
                self._cache_retry_at = now + _CACHE_PAUSE
                _log.warning("cache does not take ticks", reason=str(error))
            else:
                self._cache_holds_epoch = True
                return ticks
        if self._cache_holds_epoch:
            self._cache_holds_epoch = False
            self._sequencer.new_epoch()
            _epochs.inc()
            _log.warning("new epoch", epoch=self._sequencer.epoch)
            return self._sequencer.renumber(ticks)
        return ticks

    async def publish(self) -> None:
        """Publish what is queued, in order, until cancelled; raises Unavailable while the bus is gone."""
        while True:
            await self._news.wait()
            batch = [self._buffer.popleft() for _ in range(min(_BATCH, len(self._buffer)))]
            if not batch:
                self._news.clear()
                continue
            try:
                await self._bus.publish(TOPIC, [_record(tick) for tick in batch])
            except Unavailable:
                self._buffer.extendleft(reversed(batch))
                self._trim()
                raise
            _published.inc(len(batch))
            _waiting.set(len(self._buffer))
            self._room.set()

    def _trim(self) -> None:
        while len(self._buffer) > _BUFFER:
            self._buffer.popleft()
            _dropped.inc()
        _waiting.set(len(self._buffer))


def _record(tick: PriceTick) -> Record:
    envelope = Envelope.of(
        tick, key=tick.symbol, producer="price-collector", id=f"{tick.symbol}:{tick.epoch}:{tick.seq}"
    )
    return Record(tick.symbol, envelope.encode())


async def serve(runtime: Runtime) -> None:
    """Run the role."""
    settings = runtime.settings
    collector = Collector(runtime.backends.bus, runtime.backends.cache)
    started = False

    async def collect() -> None:
        nonlocal started
        latest = {} if started else await collector.resume()
        feed = choose(settings, runtime.backends.bus, latest)
        if not started and not latest:
            async for quotes in feed.history():
                await collector.take(quotes, wait=True)
        started = True
        async for quotes in feed.stream():
            await collector.take(quotes)

    await runtime.serve(web.HttpServer(runtime, web.create_app(runtime)), collect, collector.publish)
