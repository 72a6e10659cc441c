"""The one source of price updates: feed → sequence numbers → cache → bus."""

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from prometheus_client import Counter, Gauge

from app.events.envelope import Envelope
from app.events.prices import PriceTick
from app.instruments import INSTRUMENTS
from app.kit import logs, web
from app.kit.bus import Bus, Record
from app.kit.cache import Cache
from app.kit.errors import Unavailable
from app.kit.lease import Lease, LeaseLost
from app.kit.runtime import Runtime
from app.price_collector.feeds import Quote
from app.price_collector.feeds.choice import choose
from app.price_collector.feeds.common import Backoff
from app.price_collector.leadership import LEASE, Candidate, Term
from app.price_collector.sequencer import Sequencer
from app.price_collector.settings import CollectorSettings
from app.prices import read_latest, symbols_kept, write_latest

TOPIC = "price.updates"
_BUFFER = 5000
"""Ticks that wait for the bus; when more come, the oldest are dropped and readers see the gap."""
_BATCH = 500
_CACHE_PAUSE = 2.0
"""Seconds without a try after the cache did not answer."""
_LONGEST_PAUSE = 5.0
"""Seconds between two attempts to use the bus, at most."""

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

    `confirm` is awaited before anything is written, and raises when this replica may not write any more.
    """

    def __init__(self, bus: Bus, cache: Cache, confirm: Callable[[], Awaitable[None]] | None = None) -> None:
        self._bus = bus
        self._cache = cache
        self._confirm = confirm or _always
        self._sequencer = Sequencer({})
        self._cache_holds_epoch = True
        self._cache_retry_at = 0.0
        self._buffer: deque[PriceTick] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self.taking = asyncio.Lock()
        """Held from the numbering of quotes until they are queued; who cancels `take` outside loses none."""
        self._empty = asyncio.Event()
        self._empty.set()

    async def resume(self, *, epoch: str | None = None, anew: bool = False) -> dict[str, PriceTick]:
        """Go on from the ticks in the cache; returns them, empty for a new start.

        `epoch` is the one that was handed over. With `anew`, prices and the day's figures go on, but in an
        epoch of its own: whoever numbered before may not have ended.
        """
        latest = await read_latest(self._cache)
        known = {symbol: tick for symbol, tick in latest.items() if symbol in INSTRUMENTS}
        self._sequencer = Sequencer(known, epoch)
        if anew or (known and await symbols_kept(self._cache) - latest.keys()):
            self._sequencer.new_epoch()  # in the old one, those that cannot be read would be numbered twice
        begins = anew or not known
        _epochs.inc(1 if begins else 0)
        _log.info("new epoch" if begins else "resumed", epoch=self._sequencer.epoch, symbols=len(known))
        return known

    async def take(self, quotes: Sequence[Quote], *, wait: bool = False) -> None:
        """Number quotes and queue them; with `wait`, wait for room instead of dropping the oldest."""
        if not quotes:
            return
        async with self.taking:
            while wait and len(self._buffer) > _BUFFER - len(quotes):
                self._room.clear()
                await self._room.wait()
            await self._confirm()
            ticks = await self._remember(self._sequencer.number(quotes))
            self._buffer.extend(ticks)
            self._trim()
            self._empty.clear()
            self._news.set()

    async def drain(self) -> str | None:
        """Wait until everything is published; returns the epoch if the cache knows all of it, too."""
        await self._empty.wait()
        # Ticks of a symbol may have passed the cache by while it was away.
        await self._confirm()
        await write_latest(self._cache, self._sequencer.latest.values())
        return self._sequencer.epoch

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
                self._empty.set()
                continue
            try:
                await self._confirm()
                await self._bus.publish(TOPIC, [_record(tick) for tick in batch])
            except (Unavailable, LeaseLost):
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


async def _always() -> None:
    """A collector that is alone may always go on."""


async def serve(runtime: Runtime) -> None:
    """Run the role."""
    settings = CollectorSettings.load()
    backends = runtime.backends
    lead = Lead(runtime)
    lease = Lease(backends.database, LEASE, f"http://{socket.gethostname()}"[:200], settings.lease_seconds)
    candidate = Candidate(lease, backends.cache, settings.lease_seconds, lead.run, lead.finish)

    async def stand() -> None:
        await candidate.run(runtime.stopping)

    server = web.HttpServer(runtime, web.create_app(runtime))
    await runtime.serve(server, stand, handed_over=candidate.ended)


class Lead:
    """What the leader does."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._collector: Collector | None = None
        self._collecting: asyncio.Task[None] | None = None

    async def run(self, term: Term) -> None:
        """Collect and publish until cancelled.

        Raises:
            LeaseLost: this replica may not any more.
            Unavailable: the cache does not tell where to go on.
        """
        backends = self._runtime.backends
        collector = Collector(backends.bus, backends.cache, term.confirm)
        latest = await collector.resume(epoch=term.continues, anew=term.continues is None)
        feed = choose(self._runtime.settings, backends.bus, latest)
        told = bool(latest)

        async def collect() -> None:
            nonlocal told
            if not told:
                async for quotes in feed.history():
                    await collector.take(quotes, wait=True)
                told = True
            stream = feed.stream()
            async with aclosing(stream) as batches:  # type: ignore[type-var]
                async for quotes in batches:
                    await collector.take(quotes)

        self._collector = collector
        self._collecting = asyncio.create_task(_again(collect))
        publishing = asyncio.create_task(_again(collector.publish))
        try:
            done, _ = await asyncio.wait((self._collecting, publishing), return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                if not task.cancelled():
                    task.result()
        finally:
            for task in (self._collecting, publishing):
                task.cancel()
            await asyncio.gather(self._collecting, publishing, return_exceptions=True)
            self._collector = self._collecting = None

    async def finish(self) -> str | None:
        """Take nothing new and publish what there is, while `run` still runs; see `Candidate`."""
        collector, collecting = self._collector, self._collecting
        if collector is None or collecting is None:
            return None
        async with collector.taking:
            collecting.cancel()
            await asyncio.wait((collecting,))
        return await collector.drain()


async def _again(work: Callable[[], Awaitable[None]]) -> None:
    """Run for ever what fails now and then; raises LeaseLost."""
    pause = Backoff(_LONGEST_PAUSE)
    while True:
        try:
            await work()
        except LeaseLost:
            raise
        except Unavailable as error:
            _log.warning("waits", work=work.__qualname__, reason=str(error))
        except Exception:
            _log.exception("failed", work=work.__qualname__)
        await asyncio.sleep(pause.next())
