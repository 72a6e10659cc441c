"""Running candles: exact at every tick, whatever market-data has counted by then."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.events.prices import PriceTick
from app.instruments import INSTRUMENTS
from app.kit.bus.memory import MemoryBus
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.market_data import history
from app.market_data.candles import Candle, start_of
from app.market_data.service import CandleWriter
from app.price_service.candles import INTERVALS, Base, Candles
from app.price_service.hub import Client, Hub
from app.price_service.streams import Position
from tests.app.platform import running
from tests.app.ticks import tick

BTC = INSTRUMENTS["BTC-USD"]
BEGIN = 1_700_000_000_000


def payload(data: bytes) -> list[dict[str, Any]]:
    """Messages of some unmasked text frames."""
    found = []
    while data:
        size, begin = data[1], 2
        if size == 126:
            size, begin = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, begin = int.from_bytes(data[2:10], "big"), 10
        found.append(json.loads(data[begin : begin + size]))
        data = data[begin + size :]
    return found


def expected(ticks: Sequence[PriceTick], seconds: int) -> dict[str, object]:
    """The running candle after some ticks, the obvious way."""
    newest, counted = 0, []
    for each in ticks:
        if start_of(each.at) >= newest:
            newest = start_of(each.at)
            counted.append(each)
    start = start_of(counted[-1].at, seconds)
    group = [each for each in counted if start_of(each.at, seconds) == start]
    return {
        "start": start * 1000,
        "open": str(BTC.price(group[0].price)),
        "high": str(BTC.price(max(t.price for t in group))),
        "low": str(BTC.price(min(t.price for t in group))),
        "close": str(BTC.price(group[-1].price)),
        "volume": str(BTC.quantity(sum(t.size for t in group))),
        "trades": len(group),
        "closed": False,
    }


class Rig:
    """The channel with one client, beside the candles of a real market-data."""

    def __init__(self, database: Database, bus: MemoryBus) -> None:
        self.database = database
        self.writer = CandleWriter(database, bus)
        self.latest: dict[str, PriceTick] = {}
        self.hub = Hub()
        self.now = 0.0
        self.away = False
        self.answered = 0
        self.channel = Candles(self.hub, self.latest, self.base, lambda: self.now)
        self.hub.add(self.channel)
        self.messages: list[dict[str, Any]] = []
        self.client = Client(lambda data: self.messages.extend(payload(data)))
        self.hub.join(self.client)

    async def base(self, symbol: str) -> Base | None:
        try:
            return await self._base(symbol)
        finally:
            self.answered += 1

    async def _base(self, symbol: str) -> Base | None:
        if self.away:
            raise Unavailable("market-data", "away")
        async with self.database.transaction(read_only=True) as session:
            found = await history.running(session, symbol, list(INTERVALS.values()))
            place = await history.place(session, symbol)
        if place is None:
            return None
        names = {seconds: name for name, seconds in INTERVALS.items()}
        return Base(
            Position(place.epoch, place.seq), {names[seconds]: candle for seconds, candle in found.items()}
        )

    def take(self, ticks: Sequence[PriceTick]) -> None:
        self.latest.update({each.symbol: each for each in ticks})
        self.channel.take(ticks)

    def subscribe(self, *intervals: str) -> None:
        self.hub.subscribe(self.client, [f"candles:{interval}:BTC-USD" for interval in intervals])

    async def complete(self) -> None:
        """One question to market-data about each symbol that lacks something."""
        task = asyncio.create_task(self.channel.run())
        answered = self.answered
        async with asyncio.timeout(30):
            # With the answer taken, the channel asks again only for what is still incomplete.
            while self.answered == answered or (
                self.channel._incomplete() and not self.channel._asked.is_set()
            ):
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait((task,))

    def check(self, ticks: Sequence[PriceTick]) -> None:
        """Every message is the candle as of its tick, and each follows the one before or says it does not."""
        places = [(each.epoch, each.seq) for each in ticks]
        last: dict[str, tuple[str, int]] = {}
        for message in self.messages:
            stream, place = message["stream"], (message["epoch"], message["seq"])
            if message["type"] == "candle":
                assert (place[0], place[1] - 1) == last[stream]
            count = places.index(place) + 1
            wanted = expected(ticks[:count], INTERVALS[message["interval"]])
            assert {key: message[key] for key in wanted} == wanted
            if "finished" in message:
                before = expected(ticks[: count - 1], INTERVALS[message["interval"]])
                assert message["finished"] == {**before, "closed": True}
                assert message["start"] > message["finished"]["start"]
            last[stream] = place


def ticks_of(found: Sequence[tuple[int, int, int]], epoch: str = "e1", first: int = 1) -> list[PriceTick]:
    at, made = BEGIN, []
    for seq, (pause, price, size) in enumerate(found, start=first):
        at += pause
        made.append(tick(seq=seq, at=at, price=price, size=size, epoch=epoch))
    return made


@pytest.fixture
async def rig(database: Database, memory_bus: MemoryBus) -> Rig:
    return Rig(database, memory_bus)


TRADES = [(7_000 + 3_000 * (n % 9), 100 + (n * 31) % 57, 1 + n % 4) for n in range(400)]
"""Some hours of trades."""


@pytest.mark.parametrize("counted", [40, 100, 120])
async def test_both_parts_meet_exactly_wherever_market_data_stands(rig: Rig, counted: int) -> None:
    """It has counted less than was seen before the subscription, as much, or some of what came after."""
    ticks = ticks_of(TRADES)
    rig.take(ticks[:100])
    await rig.writer.take(ticks[:40])
    rig.subscribe(*INTERVALS)
    assert rig.messages == []  # nothing is told before it is known
    rig.take(ticks[100:150])
    if counted < 100:
        await rig.complete()
        assert rig.messages == []
        await rig.writer.take(ticks[:130])
    else:
        await rig.writer.take(ticks[:counted])
    await rig.complete()
    assert {message["type"] for message in rig.messages} == {"candleSnapshot"}
    assert {message["seq"] for message in rig.messages} == {150}
    rig.take(ticks[150:])
    assert len(rig.messages) == 6 * 251
    assert any("finished" in message for message in rig.messages)
    rig.check(ticks)


@given(
    st.lists(
        st.tuples(st.integers(-30_000, 90_000), st.integers(1, 500), st.integers(1, 9)),
        min_size=8,
        max_size=60,
    ),
    st.integers(1, 7),
)
def test_a_tick_of_a_finished_minute_is_counted_nowhere(found: list[tuple[int, int, int]], cut: int) -> None:
    """As in market-data."""
    ticks = ticks_of([(200_000, 100, 1), *found])
    channel_ticks = ticks[:cut]

    def based() -> dict[str, Candle]:
        candles = {}
        for interval, seconds in INTERVALS.items():
            wanted = expected(channel_ticks, seconds)
            start = int(str(wanted["start"])) // 1000
            newest, group = 0, []
            for each in channel_ticks:
                if start_of(each.at) >= newest:
                    newest = start_of(each.at)
                    group.append(each)
            group = [each for each in group if start_of(each.at, seconds) == start]
            candle = Candle.begin(group[0], start)
            for each in group[1:]:
                candle.add(each)
            candles[interval] = candle
        return candles

    hub = Hub()
    latest = {"BTC-USD": channel_ticks[-1]}

    async def base(_: str) -> Base:
        return Base(Position("e1", cut), based())

    messages: list[dict[str, Any]] = []

    async def scenario() -> None:
        channel = Candles(hub, latest, base)
        hub.add(channel)
        client = Client(lambda data: messages.extend(payload(data)))
        hub.join(client)
        hub.subscribe(client, ["candles:5m:BTC-USD"])
        task = asyncio.create_task(channel.run())
        while not messages:
            await asyncio.sleep(0)
        task.cancel()
        channel.take(ticks[cut:])

    asyncio.run(scenario())
    assert [message["seq"] for message in messages] == list(range(cut, len(ticks) + 1))
    for message in messages:
        wanted = expected(ticks[: message["seq"]], 300)
        assert {key: message[key] for key in wanted} == wanted


async def test_missing_ticks_and_new_epochs_begin_anew(rig: Rig) -> None:
    first = ticks_of(TRADES[:100])
    second = [
        each.model_copy(update={"epoch": "e2", "seq": n, "at": first[-1].at + each.at - BEGIN})
        for n, each in enumerate(ticks_of(TRADES[:100]), start=1)
    ]
    ticks = [*first, *second]
    rig.take(ticks[:10])
    await rig.writer.take(ticks[:10])
    rig.subscribe("1m", "1h")
    await rig.complete()
    rig.take(ticks[10:50])
    rig.take(ticks[60:90])  # ten are missing here, but not in market-data
    seen = len(rig.messages)
    assert {message["seq"] for message in rig.messages[-2:]} == {50}
    await rig.writer.take(ticks[:75])
    await rig.complete()
    assert [message["type"] for message in rig.messages[seen:]] == ["candleSnapshot"] * 2
    rig.take(ticks[90:120])
    await rig.writer.take(ticks[:110])
    await rig.complete()
    assert rig.messages[-1]["epoch"] == "e2"
    rig.take(ticks[120:])
    rig.check(ticks)


async def test_while_market_data_is_away_nothing_wrong_is_told(rig: Rig) -> None:
    ticks = ticks_of(TRADES)
    rig.take(ticks[:10])
    rig.away = True
    rig.subscribe("5m")
    await rig.complete()
    rig.take(ticks[10:200])
    assert rig.messages == []
    rig.away = False
    await rig.writer.take(ticks[:200])
    await rig.complete()
    rig.take(ticks[200:])
    assert rig.messages[0]["seq"] == 200
    rig.check(ticks)


async def test_only_what_has_subscribers_is_followed(rig: Rig) -> None:
    ticks = ticks_of(TRADES)
    await rig.writer.take(ticks[:100])
    rig.take(ticks[:100])
    assert rig.channel._symbols == {}
    rig.subscribe("1m", "1d")
    await rig.complete()
    rig.take(ticks[100:110])
    last = {"candles:1m:BTC-USD": Position(ticks[109].epoch, ticks[109].seq)}
    assert all(rig.hub.recoverable(rig.client, last).values())
    assert set(rig.channel._symbols["BTC-USD"].running) == {"1m", "1d"}
    rig.hub.unsubscribe(rig.client, ["candles:1m:BTC-USD"])
    for seconds in (0, 59, 61):
        rig.now = seconds
        rig.channel.tidy()
        kept = {"1d"} if seconds > 60 else {"1m", "1d"}
        assert set(rig.channel._symbols["BTC-USD"].running) == kept
    assert not any(rig.hub.recoverable(rig.client, last).values())  # nobody may go on from there
    rig.hub.leave(rig.client)
    rig.channel.tidy()
    rig.now = 130
    rig.channel.tidy()
    assert rig.channel._symbols == {}


async def test_who_comes_later_gets_the_candle_at_once(rig: Rig) -> None:
    ticks = ticks_of(TRADES)
    await rig.writer.take(ticks[:100])
    rig.take(ticks[:100])
    rig.subscribe("15m")
    await rig.complete()
    rig.take(ticks[100:200])
    late: list[dict[str, Any]] = []
    client = Client(lambda data: late.extend(payload(data)))
    rig.hub.join(client)
    rig.hub.subscribe(client, ["candles:15m:BTC-USD"])
    (snapshot,) = late
    assert (snapshot["type"], snapshot["reason"], snapshot["seq"]) == ("candleSnapshot", "subscribe", 200)
    wanted = expected(ticks[:200], 900)
    assert {key: snapshot[key] for key in wanted} == wanted


async def test_over_the_socket_candles_are_those_of_the_ticks(tmp_path: Path) -> None:
    roles = ("market-data", "price-collector", "price-service")
    async with (
        running(tmp_path, *roles, feed_rate=20.0) as platform,
        platform.websocket("price-service") as socket,
    ):
        channels = ["ticker", "candles:1m", "candles:1d"]
        await socket.send(json.dumps({"op": "subscribe", "symbols": ["BTC-USD"], "channels": channels}))
        ticks: dict[tuple[str, int], dict[str, Any]] = {}
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(30):
            while sum(each["type"] == "candle" for each in found) < 60:
                message = json.loads(await socket.recv())
                if message["type"] == "tick":
                    ticks[message["epoch"], message["seq"]] = message
                elif message["type"].startswith("candle"):
                    found.append(message)
    assert {each["stream"] for each in found} == {"candles:1m:BTC-USD", "candles:1d:BTC-USD"}
    first_day = min(each["start"] for each in found if each["interval"] == "1d")
    for each in found:
        same = ticks.get((each["epoch"], each["seq"]))
        if same is not None:
            assert each["close"] == same["price"]
        if each["interval"] == "1d" and each["start"] == first_day:
            assert each["trades"] == each["seq"]  # every tick since the first one
