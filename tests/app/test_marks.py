"""Marks follow the prices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.events.envelope import Envelope
from app.events.prices import PriceTick
from app.events.registry import FAMILIES
from app.kit.bus import Bus, Record
from app.kit.cache.memory import MemoryCache
from app.marks import Marks
from app.prices import write_latest
from tests.app.ticks import tick


async def publish(bus: Bus, *ticks: PriceTick) -> None:
    await bus.publish(
        "price.updates",
        [Record(t.symbol, Envelope.of(t, key=t.symbol, producer="test").encode()) for t in ticks],
    )


@asynccontextmanager
async def following(marks: Marks) -> AsyncIterator[None]:
    task = asyncio.create_task(marks.follow())
    try:
        yield
        assert not task.done()
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=1.0)


async def until(marks: Marks, symbol: str, price: int) -> None:
    async with asyncio.timeout(30):
        while marks.price(symbol) != price:
            await asyncio.sleep(0.01)


async def test_they_start_from_the_cache_and_follow_the_stream(bus: Bus) -> None:
    await bus.ensure([FAMILIES["price.updates"].topic])
    cache = MemoryCache()
    await write_latest(cache, [tick(price=100, seq=7, at=5_000), tick("ETH-USD", price=50)])
    marks = Marks(bus, cache, clock=lambda: 12.5)
    assert (marks.price("BTC-USD"), marks.age("BTC-USD")) == (None, None)
    async with following(marks):
        await until(marks, "BTC-USD", 100)
        assert marks.age("BTC-USD") == 7.5
        await publish(bus, tick(price=99, seq=6, at=5_000), tick(price=101, seq=8, at=6_000))
        await until(marks, "BTC-USD", 101)
        await bus.publish("price.updates", [Record("BTC-USD", b"no event")])
        await publish(
            bus, tick(price=3, seq=1, epoch="e0", at=4_000), tick(price=102, seq=1, epoch="e2", at=6_000)
        )
        await until(marks, "BTC-USD", 102)
        assert (marks.price("ETH-USD"), marks.price("AAPL")) == (50, None)


async def test_an_old_price_does_not_come_back_when_it_is_loaded_again(memory_bus: Bus) -> None:
    cache = MemoryCache()
    marks = Marks(memory_bus, cache)
    await write_latest(cache, [tick(price=100, seq=7)])
    await marks.load()
    await write_latest(cache, [tick(price=90, seq=6), tick("ETH-USD", price=50)])
    await marks.load()
    assert (marks.price("BTC-USD"), marks.price("ETH-USD")) == (100, 50)
