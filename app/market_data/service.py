"""Candles from the price stream, and what the endpoints answer."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain

from prometheus_client import Counter

from app.events.envelope import Envelope
from app.events.prices import CandleClosed, PriceTick
from app.events.reading import payloads
from app.instruments import INSTRUMENTS
from app.kit import outbox
from app.kit.bus import Bus
from app.kit.database import Database
from app.market_data.candles import Aggregator, Candle, unseen
from app.market_data.repository import MarketRepository

_TOPIC = "price.updates"
_GROUP = "market-data"
_BATCH = 2000
_PAUSE = 1.0
"""Seconds between two looks at the bus: one transaction takes all ticks of that time."""
_ticks = Counter("candle_ticks_total", "Ticks taken into candles")
_late = Counter("candle_ticks_late_total", "Ticks left out because their candle was finished")
_closed = Counter("candles_closed_total", "Candles finished")


class CandleWriter:
    """Keeps the candles up to date: every tick counts exactly once, whatever is delivered again."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._repository = MarketRepository(database)

    async def prepare(self) -> None:
        """Store the instruments; raises Unavailable."""
        async with self._database.transaction() as session:
            await self._repository.save_instruments(session, INSTRUMENTS.values())

    async def run(self) -> None:
        """Follow the bus until cancelled; raises Unavailable when bus or database are gone."""
        subscription = await self._bus.subscribe([_TOPIC], _GROUP)
        try:
            while True:
                messages = await subscription.batch(_BATCH, seconds=_PAUSE)
                if messages:
                    await self.take(list(payloads(messages, PriceTick)))
                    await subscription.commit(messages)
                if len(messages) < _BATCH:
                    await asyncio.sleep(_PAUSE)
        finally:
            await subscription.close()

    async def take(self, ticks: Sequence[PriceTick]) -> None:
        """Fold ticks into the stored candles, with an event for each finished one, in one transaction."""
        by_symbol: dict[str, list[PriceTick]] = defaultdict(list)
        for tick in ticks:
            by_symbol[tick.symbol].append(tick)
        if not by_symbol:
            return
        async with self._database.transaction() as session:
            seen = await self._repository.progress(session, ticks)
            fresh = {symbol: unseen(found, seen[symbol]) for symbol, found in by_symbol.items()}
            open_candles = await self._repository.open_candles(session, fresh)
            changed: list[Candle] = []
            closed: list[Candle] = []
            late = 0
            for symbol, found in fresh.items():
                aggregator = Aggregator(open_candles.get(symbol))
                for tick in found:
                    aggregator.add(tick)
                late += aggregator.late
                changed += aggregator.changed.values()
                closed += aggregator.closed
            await self._repository.save_candles(session, changed)
            taken = list(chain.from_iterable(fresh.values()))
            await self._repository.save_progress(session, taken)
            await self._repository.save_places(session, taken)
            await outbox.write(session, [_closed_event(candle) for candle in closed])
        _late.inc(late)
        _ticks.inc(sum(len(found) for found in fresh.values()))
        _closed.inc(len(closed))


def _closed_event(candle: Candle) -> Envelope:
    payload = CandleClosed(
        symbol=candle.symbol,
        start=datetime.fromtimestamp(candle.start, UTC),
        open=candle.open,
        high=candle.high,
        low=candle.low,
        close=candle.close,
        volume=candle.volume,
        trades=candle.trades,
    )
    return Envelope.of(
        payload, key=candle.symbol, producer="market-data", id=f"candle:{candle.symbol}:{candle.start}"
    )
