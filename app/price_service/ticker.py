"""The channel `ticker`: the state of each symbol after its latest trade."""

from collections.abc import Callable, Iterable, Sequence

import orjson
from prometheus_client import Counter

from app.events.prices import PriceTick
from app.events.reading import payloads
from app.instruments import INSTRUMENTS
from app.kit import logs
from app.kit.broadcast import Broadcast
from app.kit.bus import Bus
from app.kit.cache import Cache
from app.kit.errors import Unavailable
from app.price_service.frames import body, text_frame
from app.price_service.hub import Hub
from app.price_service.sequence import SequenceTracker, Verdict
from app.price_service.streams import GATHER, Entry, symbol_of
from app.prices import read_latest

CHANNEL = "ticker"
_TOPIC = "price.updates"
_BATCH = 1000
_log = logs.get(__name__)
resyncs = Counter("price_resyncs_total", "Snapshots sent because the stream had a gap", ["reason"])

Listener = Callable[[Sequence[PriceTick]], None]
"""Takes ticks of known symbols, oldest first, none of them twice; never blocks. A tick may leave some out."""


class Ticker:
    """Every tick holds the whole state of its symbol, so after a gap it is itself the snapshot."""

    names = (CHANNEL,)

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._bodies: dict[str, bytes] = {}
        """Symbol → its latest tick as JSON."""

    def take(self, found: Sequence[tuple[PriceTick, Verdict]]) -> None:
        """Publish new ticks."""
        entries = []
        for tick, verdict in found:
            self._bodies[tick.symbol] = text = orjson.dumps(body(tick))
            if verdict is Verdict.NEXT:
                data = text_frame(b'{"type":"tick",' + text[1:])
            else:
                resyncs.labels(verdict.value).inc()
                data = _snapshot([text], "resync")
            stream = f"{CHANNEL}:{tick.symbol}"
            reset = verdict is not Verdict.NEXT
            entries.append(Entry(stream, tick.epoch, tick.seq, tick.at, data, reset))
        self._hub.publish(entries)

    def snapshot(self, streams: Sequence[str], reason: str) -> list[bytes]:
        """See `Channel`: one message for all."""
        known = [self._bodies[s] for stream in streams if (s := symbol_of(stream)) in self._bodies]
        return [_snapshot(known, reason)] if known else []


def _snapshot(bodies: Iterable[bytes], reason: str) -> bytes:
    return text_frame(
        b'{"type":"snapshot","reason":"%b","ticks":[%b]}' % (reason.encode(), b",".join(bodies))
    )


class TickFollower:
    """Reads every tick on the bus, from the state in the cache on, for all channels that are made of ticks.

    `listeners` get the same ticks after the channel `ticker`: add them before `open`.
    """

    def __init__(self, bus: Bus, cache: Cache, ticker: Ticker) -> None:
        self._messages = Broadcast(bus, [_TOPIC], _BATCH, GATHER)
        self._cache = cache
        self._ticker = ticker
        self._tracker = SequenceTracker()
        self.latest: dict[str, PriceTick] = {}
        """Symbol → its newest tick."""
        self.listeners: list[Listener] = []

    def price(self, symbol: str) -> int | None:
        """The last price in ticks; None when there is none."""
        tick = self.latest.get(symbol)
        return None if tick is None else tick.price

    async def open(self) -> None:
        """Fix the place on the bus, then load the cache: nothing falls between the two.

        Raises:
            Unavailable: the bus does not answer, or the cache does not and no tick is known yet.
        """
        await self._messages.open()
        try:
            self.take((await read_latest(self._cache)).values())
        except Unavailable as error:
            if not self.latest:
                raise
            _log.warning("going on without the cache", reason=str(error))

    async def run(self) -> None:
        """Hand ticks on until cancelled; raises Unavailable when the subscription breaks."""
        await self._messages.follow(lambda found: self.take(payloads(found, PriceTick)), self.open)

    def take(self, ticks: Iterable[PriceTick]) -> None:
        """Hand on what is new in some ticks, oldest first."""
        found = []
        for tick in ticks:
            if tick.symbol not in INSTRUMENTS:
                continue  # a newer version of the app trades it
            verdict = self._tracker.observe(tick.symbol, tick.epoch, tick.seq)
            if verdict is not Verdict.REPEATED:
                self.latest[tick.symbol] = tick
                found.append((tick, verdict))
        if found:
            self._ticker.take(found)
            new = [tick for tick, _ in found]
            for listener in self.listeners:
                listener(new)
