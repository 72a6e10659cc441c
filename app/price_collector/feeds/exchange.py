"""The exchange's own trades as quotes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

from app.events.matching import MatchingOutput, TradeMade
from app.events.reading import payloads
from app.instruments import Instrument
from app.kit import logs
from app.kit.bus import Bus, Message
from app.kit.errors import Unavailable
from app.price_collector.feeds import Quote
from app.price_collector.feeds.common import Backoff, LiveFeed, connected, errors, reconnects

TOPIC = "matching.output"
_NAME = "exchange"
_BATCH = 500
_WAIT = 1.0
_REPEATED = 60_000
"""Milliseconds: first news of a symbol that are so much older than the feed were published again."""

_log = logs.get(__name__)


class ExchangeFeed(LiveFeed):
    """Quotes of symbols that trade, from now on; output that was published again is told once.

    The stream has no book. A trade whose taker bought was made at the ask, one whose taker sold at the bid;
    the other side is what the last opposite trade said, or the price where that would cross.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        bus: Bus,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._symbols = {instrument.symbol for instrument in instruments}
        self._bus = bus
        self._pause = pause
        self._oldest = int(clock().timestamp() * 1000) - _REPEATED
        self._places: dict[str, int] = {}
        self._bids: dict[str, int] = {}
        self._asks: dict[str, int] = {}

    async def stream(self) -> AsyncIterator[Sequence[Quote]]:
        """See `Feed`."""
        backoff = Backoff(5.0)
        first = True
        while True:
            try:
                async with aclosing(self._messages()) as batches:
                    async for messages in batches:
                        if messages is None:
                            connected.labels(_NAME).set(1)
                            reconnects.labels(_NAME).inc(0 if first else 1)
                            first = False
                            backoff.reset()
                        elif quotes := self.quotes(payloads(messages, MatchingOutput)):
                            yield quotes
            except Unavailable as error:
                errors.labels(_NAME, "unavailable").inc()
                _log.warning("feed waits", feed=_NAME, reason=str(error))
            finally:
                connected.labels(_NAME).set(0)
            await self._pause(backoff.next())

    async def _messages(self) -> AsyncGenerator[list[Message] | None, None]:
        """Batches of one subscription, after a None that tells that it stands."""
        subscription = await self._bus.subscribe([TOPIC], None)
        try:
            yield None
            while True:
                yield await subscription.batch(_BATCH, _WAIT)
        finally:
            await subscription.close()

    def quotes(self, outputs: Iterable[MatchingOutput]) -> list[Quote]:
        """Quotes of the trades that were not told yet, in their order."""
        return [quote for output in outputs for quote in self._of(output)]

    def _of(self, output: MatchingOutput) -> list[Quote]:
        place = self._places.get(output.symbol)
        if output.symbol not in self._symbols or (place is None and output.at < self._oldest):
            return []
        if place is not None and output.last <= place:
            return []
        if place is not None and output.first > place + 1:
            errors.labels(_NAME, "gap").inc()
            _log.warning("trades may be missing", feed=_NAME, symbol=output.symbol, after=place)
        self._places[output.symbol] = output.last
        at = datetime.fromtimestamp(output.at / 1000, UTC)
        return [
            self._quote(output.symbol, at, change)
            for change in output.changes
            if isinstance(change, TradeMade) and (place is None or change.sequence > place)
        ]

    def _quote(self, symbol: str, at: datetime, trade: TradeMade) -> Quote:
        mine, other = (self._asks, self._bids) if trade.taker_side == "buy" else (self._bids, self._asks)
        mine[symbol] = trade.price
        known = other.get(symbol, trade.price)
        crossed = known > trade.price if trade.taker_side == "buy" else known < trade.price
        other[symbol] = trade.price if crossed else known
        return Quote(symbol, at, trade.price, trade.quantity, self._bids[symbol], self._asks[symbol])
