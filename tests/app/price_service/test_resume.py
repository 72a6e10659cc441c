"""A client that moves from one replica to another gets exactly what it missed, or is told that it cannot."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.events.registry import FAMILIES
from app.kit.bus.memory import MemoryBus
from app.price_service.executions import Executions
from app.price_service.hub import Client, Hub
from app.price_service.matching_follower import MatchingFollower
from app.price_service.ring import Ring
from app.price_service.streams import Entry, Position
from app.price_service.trades import EPOCH, Trades
from tests.app.outputs import output, records, trade
from tests.app.platform import Platform, running
from tests.app.price_service.replicas import another, answer, ask, client, closed, decided, hear, prices
from tests.app.ticks import tick

STREAM = "ticker:BTC-USD"
TRADES = "trades:BTC-USD"


async def _arrived(platform: Platform, seq: int) -> None:
    """Return when a replica has a tick."""
    async with client(platform) as watcher:
        await ask(watcher, "subscribe", symbols=["BTC-USD"])
        found: Any = 0
        while found < seq:
            message = await hear(watcher, "snapshot", "tick")
            found = message["seq"] if message["type"] == "tick" else message["ticks"][0]["seq"]


async def test_a_client_that_moves_gets_what_it_missed_and_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as first, another(first) as second:
        await prices(first, tick(seq=1), tick(seq=2))
        async with client(first) as before:
            await ask(before, "subscribe", symbols=["BTC-USD"])
            await hear(before, "snapshot", "tick")
            await prices(first, tick(seq=3))
            seen = await hear(before, "tick")
            while seen["seq"] < 3:
                seen = await hear(before, "tick")
        await prices(first, tick(seq=4), tick(seq=5))
        await _arrived(second, 5)
        async with client(second) as after:
            place = {"epoch": seen["epoch"], "seq": seen["seq"]}
            told = await answer(after, "subscribe", symbols=["BTC-USD"], resume={STREAM: place})
            assert told == {"type": "subscribed", "symbols": ["BTC-USD"], "recovered": {STREAM: True}}
            await prices(first, tick(seq=6))
            missed = [await hear(after) for _ in range(3)]
            assert [(m["type"], m["seq"]) for m in missed] == [("tick", 4), ("tick", 5), ("tick", 6)]


@pytest.mark.parametrize(
    "place",
    [{"epoch": "e1", "seq": 1}, {"epoch": "e0", "seq": 7}, {"epoch": "e1", "seq": 90}],
    ids=["before the ring", "another epoch", "not there yet"],
)
async def test_what_cannot_be_continued_begins_with_a_snapshot(
    tmp_path: Path, place: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_STREAM_RING", "3")
    async with running(tmp_path, "price-service") as platform:
        await prices(platform, *(tick(seq=seq) for seq in range(1, 8)))
        await _arrived(platform, 7)
        async with client(platform) as back:
            told = await answer(back, "subscribe", symbols=["BTC-USD"], resume={STREAM: place})
            assert told["recovered"] == {STREAM: False}
            whole = await hear(back)
            assert (whole["type"], whole["reason"], whole["ticks"][0]["seq"]) == ("snapshot", "resync", 7)
            await prices(platform, tick(seq=8))
            assert (await hear(back))["seq"] == 8


async def test_a_replica_that_has_just_begun_knows_no_past(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as first:
        await prices(first, *(tick(seq=seq) for seq in range(1, 6)))
        async with another(first) as fresh, client(fresh) as back:
            await prices(first, tick(seq=6))
            await _arrived(fresh, 6)
            told = await answer(
                back, "subscribe", symbols=["BTC-USD"], resume={STREAM: {"epoch": "e1", "seq": 3}}
            )
            assert told["recovered"] == {STREAM: False}
            assert (await hear(back))["type"] == "snapshot"


async def test_streams_are_recovered_one_by_one(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as platform:
        await prices(platform, tick(seq=1), tick(seq=2), tick(seq=3), tick("ETH-USD", 1))
        await _arrived(platform, 3)
        async with client(platform) as back:
            told = await answer(
                back,
                "subscribe",
                symbols=["BTC-USD", "ETH-USD"],
                channels=["ticker"],
                resume={STREAM: {"epoch": "e1", "seq": 2}, "ticker:ETH-USD": {"epoch": "old", "seq": 2}},
            )
            assert told["channels"] == ["ticker"]
            assert told["recovered"] == {STREAM: True, "ticker:ETH-USD": False}
            missed, whole = await hear(back), await hear(back)
            assert (missed["type"], missed["seq"]) == ("tick", 3)
            assert [t["symbol"] for t in whole["ticks"]] == ["ETH-USD"]


async def test_trades_are_numbered_and_recovered(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as first, another(first) as second:
        async with client(first) as one:
            await answer(one, "subscribe", symbols=["BTC-USD"], channels=["trades"])
            await decided(first, output([trade(1, price=10_000, quantity=7), trade(2)]))
            begin, following = await hear(one), await hear(one)
            assert (begin["type"], begin["seq"], begin["gap"]) == ("tradesSnapshot", 1, True)
            assert set(begin["trades"][0]) == {"seq", "time", "price", "quantity", "side"}
            assert begin["trades"][0]["price"] == "100.00"
            assert (following["type"], following["stream"], following["seq"]) == ("trade", TRADES, 2)
            assert "anna" not in str(begin) + str(following)
        place = {"epoch": following["epoch"], "seq": 2}
        await decided(first, output([trade(3), trade(4)]))
        async with client(second) as watcher:
            await ask(watcher, "subscribe", symbols=["BTC-USD"], channels=["trades"])
            while (await hear(watcher, "trade", "tradesSnapshot"))["seq"] < 4:
                pass
        async with client(second) as two:
            told = await answer(
                two, "subscribe", symbols=["BTC-USD"], channels=["trades"], resume={TRADES: place}
            )
            assert told["recovered"] == {TRADES: True}
            assert [(await hear(two))["seq"] for _ in range(2)] == [3, 4]
            await decided(first, output([trade(9)]))
            lost = await hear(two)
            assert (lost["type"], lost["reason"], lost["gap"], lost["seq"]) == (
                "tradesSnapshot",
                "resync",
                True,
                9,
            )


async def test_a_drain_leaves_nothing_untold(tmp_path: Path) -> None:
    async with running(tmp_path, "price-service") as first, another(first) as second:
        async with client(first) as moving:
            await answer(moving, "subscribe", symbols=["BTC-USD"])
            await prices(first, tick(seq=1), tick(seq=2))
            while (await hear(moving, "tick"))["seq"] < 2:
                pass
            first.stopping.set()
            await prices(second, tick(seq=3))
            code, _, heard = await closed(moving)
            assert code == 1012
            assert [m["type"] for m in heard if m["type"] not in ("tick", "heartbeat")] == ["serverShutdown"]
            last = max([2, *(m["seq"] for m in heard if m["type"] == "tick")])
        await prices(second, tick(seq=4))
        await _arrived(second, 4)
        async with client(second) as back:
            place = {"epoch": "e1", "seq": last}
            told = await answer(back, "subscribe", symbols=["BTC-USD"], resume={STREAM: place})
            assert told["recovered"] == {STREAM: True}
            assert [(await hear(back))["seq"] for _ in range(4 - last)] == list(range(last + 1, 5))


def test_a_ring_takes_nothing_that_does_not_follow() -> None:
    ring = Ring(2)
    ring.put(Entry("s", "e", 5, 0, b"5", reset=True))
    for seq in (6, 7, 8):
        ring.put(Entry("s", "e", seq, 0, str(seq).encode()))
    assert ring.after(Position("e", 6)) == [b"7", b"8"]
    assert ring.after(Position("e", 8)) == []
    assert ring.after(Position("e", 5)) is None
    with pytest.raises(ValueError, match="does not follow"):
        ring.put(Entry("s", "e", 10, 0, b"10"))


async def test_trades_are_not_continued_over_what_may_have_been_missed() -> None:
    hub, trades, bus = Hub(), Trades(), MemoryBus()
    hub.add(trades)
    await bus.ensure([FAMILIES["matching.output"].topic])
    follower = MatchingFollower(bus, hub, trades, Executions(0))
    heard: list[bytes] = []
    client = Client(heard.append)
    hub.join(client)
    hub.subscribe(client, [TRADES])
    await follower.open()
    await bus.publish("matching.output", records([output([trade(1), trade(2)])]))
    work = asyncio.create_task(follower.run())
    try:
        async with asyncio.timeout(30):
            while len(heard) < 1:
                await asyncio.sleep(0)
            work.cancel()
            await asyncio.wait((work,))
            assert hub.recoverable(client, {TRADES: Position(EPOCH, 2)}) == {TRADES: True}
            work = asyncio.create_task(follower.run())
            while hub.recoverable(client, {TRADES: Position(EPOCH, 2)})[TRADES]:
                await asyncio.sleep(0)
            # Nobody knows that nothing came between; as it did not, what is known goes on.
            await bus.publish("matching.output", records([output([trade(3)]), output([trade(4)])]))
            while len(heard) < 2:
                await asyncio.sleep(0)
    finally:
        work.cancel()
        await asyncio.wait((work,))
    assert hub.recoverable(client, {TRADES: Position(EPOCH, 3)}) == {TRADES: True}
    whole = orjson.loads(heard[1][heard[1].index(b"{") : heard[1].index(b"]}") + 2])
    assert (whole["type"], whole["reason"], whole["gap"]) == ("tradesSnapshot", "resync", True)
    assert [each["seq"] for each in whole["trades"]] == [1, 2, 3]
