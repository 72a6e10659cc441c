"""Books from the bus and the engine: whenever a replica starts, and whoever is away meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.events.books import TOPIC, BookUpdated
from app.events.envelope import Envelope
from app.events.registry import FAMILIES
from app.kit.bus import Bus, Record
from app.kit.errors import Unavailable
from app.matching_client.commands import PublishedBooks
from app.price_service import depth_follower
from app.price_service.depth import Depth
from app.price_service.depth_follower import DepthFollower
from app.price_service.hub import Hub
from tests.app.price_service.market import Market
from tests.app.price_service.test_depth import Viewer

SECONDS = 30.0


class Leader:
    """The engine as the follower sees it, which can be away."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.away = False
        self.asked = 0

    async def books(self) -> PublishedBooks:
        self.asked += 1
        if self.away:
            raise Unavailable("matching-engine", "away")
        return await self.market.ask()


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_follower, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(depth_follower, "_LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(depth_follower, "_DEPOSED_SECONDS", 600.0)


@pytest.fixture
async def topic(bus: Bus) -> Bus:
    await bus.ensure([FAMILIES[TOPIC].topic])
    return bus


async def bring(bus: Bus, *updates: BookUpdated) -> None:
    envelopes = [Envelope.of(update, key=update.symbol, producer="test") for update in updates]
    await bus.publish(TOPIC, [Record(one.key, one.encode()) for one in envelopes])


@asynccontextmanager
async def following(bus: Bus, leader: Leader, hub: Hub | None = None) -> AsyncIterator[Hub]:
    hub = hub or Hub()
    depth = Depth(hub)
    hub.add(depth)
    task = asyncio.create_task(DepthFollower(bus, leader.books, depth).run())
    try:
        yield hub
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(viewer: Viewer, market: Market) -> None:
    async with asyncio.timeout(SECONDS):
        while viewer.book.levels() != market.levels():
            await asyncio.sleep(0.01)


async def test_a_replica_that_starts_later_asks_the_engine(topic: Bus) -> None:
    market = Market()
    await bring(topic, await market.changed(100), await market.changed())
    async with following(topic, Leader(market)) as hub:
        viewer = Viewer(hub).subscribe()
        await until(viewer, market)
        assert (viewer.book.seq, viewer.book.reasons) == (2, ["resync"])
        await bring(topic, await market.changed(), await market.changed())
        await until(viewer, market)
        assert (viewer.book.seq, viewer.book.changes) == (4, 2)


async def test_two_replicas_tell_the_same(topic: Bus) -> None:
    market = Market()
    await bring(topic, await market.changed(100))
    async with following(topic, Leader(market)) as one, following(topic, Leader(market)) as two:
        first, second = Viewer(one).subscribe(), Viewer(two).subscribe()
        await until(first, market)
        await until(second, market)
        await bring(topic, await market.changed())
        await until(first, market)
        await until(second, market)
        # What was seen at the one is continued at the other.
        await bring(topic, await market.changed())
        await until(second, market)
        moved = Viewer(two)
        assert moved.resume(first.book)
        assert moved.book.levels() == market.levels()


async def test_without_the_engine_books_begin_with_the_next_snapshot(topic: Bus) -> None:
    market = Market()
    await bring(topic, await market.changed(100))
    leader = Leader(market)
    leader.away = True
    async with following(topic, leader) as hub:
        viewer = Viewer(hub).subscribe()
        async with asyncio.timeout(SECONDS):
            while leader.asked < 3:
                await asyncio.sleep(0.01)
        await bring(topic, await market.changed())
        market.lead(2)
        await bring(topic, *await market.publish())
        await until(viewer, market)
        assert viewer.book.epoch == "2"
        # Changes go on while other books are still asked for.
        await bring(topic, await market.changed())
        await until(viewer, market)


async def test_a_gap_is_closed_when_the_engine_is_back(topic: Bus) -> None:
    market = Market()
    leader = Leader(market)
    await bring(topic, await market.changed(100))
    async with following(topic, leader) as hub:
        viewer = Viewer(hub).subscribe()
        await until(viewer, market)
        leader.away = True
        await market.changed()
        await bring(topic, await market.changed())
        asked = leader.asked
        async with asyncio.timeout(SECONDS):
            while leader.asked < asked + 2:
                await asyncio.sleep(0.01)
        assert viewer.book.levels() != market.levels()
        leader.away = False
        await until(viewer, market)
        assert viewer.book.reasons == ["resync", "resync"]


async def test_a_leader_that_was_replaced_is_not_believed(topic: Bus) -> None:
    old, new = Market(seed=1), Market(seed=2)
    new.lead(2)
    leader = Leader(old)
    await old.changed(100)
    async with following(topic, leader) as hub:
        viewer = Viewer(hub).subscribe()
        await until(viewer, old)
        await bring(topic, await new.changed(100))
        await until(viewer, new)
        asked = leader.asked
        await bring(topic, await old.changed())
        async with asyncio.timeout(SECONDS):
            while leader.asked < asked + 3:
                await asyncio.sleep(0.01)
        assert viewer.book.levels() == new.levels()
        leader.market = new
        await bring(topic, await new.changed())
        await until(viewer, new)
        assert viewer.book.epoch == "2"
