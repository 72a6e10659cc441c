"""The source of prices: the simulated market, numbering, and going on without bus or cache."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.events.envelope import Envelope
from app.events.prices import PriceTick
from app.instruments import INSTRUMENTS, AssetClass, Calendar
from app.kit.bus import Record
from app.kit.bus.memory import MemoryBus
from app.kit.cache.memory import MemoryCache
from app.kit.errors import Unavailable
from app.price_collector.feeds import Quote
from app.price_collector.feeds.simulated import SimulatedFeed
from app.price_collector.sequencer import Sequencer
from app.price_collector.service import TOPIC, Collector
from app.prices import read_latest

FRIDAY = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
"""10:00 in New York: every market is open."""
SATURDAY = datetime(2026, 11, 21, 15, 0, tzinfo=UTC)


def feed(seed: int = 1, **options: object) -> SimulatedFeed:
    return SimulatedFeed(INSTRUMENTS.values(), seed=seed, rate=5, **options)  # type: ignore[arg-type]


def quote(symbol: str = "BTC-USD", price: int = 100, at: datetime = FRIDAY) -> Quote:
    return Quote(symbol, at, price, 1, price - 1, price + 1)


def walk(made: SimulatedFeed, begin: datetime, steps: int, probability: float = 1.0) -> list[Quote]:
    return [q for n in range(steps) for q in made.step(begin + timedelta(seconds=n), 1.0, probability)]


def test_there_are_instruments_of_every_kind() -> None:
    assert len(INSTRUMENTS) >= 20
    assert {i.asset_class for i in INSTRUMENTS.values()} == set(AssetClass)


def test_the_same_seed_gives_the_same_market() -> None:
    assert walk(feed(3), FRIDAY, 50, 0.5) == walk(feed(3), FRIDAY, 50, 0.5)
    assert walk(feed(3), FRIDAY, 50) != walk(feed(4), FRIDAY, 50)


def test_only_open_markets_trade() -> None:
    classes = {INSTRUMENTS[q.symbol].asset_class for q in walk(feed(), SATURDAY, 20)}
    assert classes == {AssetClass.CRYPTO}
    assert {INSTRUMENTS[q.symbol].asset_class for q in walk(feed(), FRIDAY, 20)} == set(AssetClass)


def test_an_opening_brings_a_gap() -> None:
    before_open = datetime(2026, 11, 20, 14, 29, 59, tzinfo=UTC)
    jumps, steps = [], []
    for seed in range(30):
        made = feed(seed)
        made.step(before_open, 1.0, 1.0)
        prices = [
            next(
                q.price for q in made.step(before_open + timedelta(seconds=n), 1.0, 1.0) if q.symbol == "AAPL"
            )
            for n in (1, 2, 3)
        ]
        jumps.append(abs(prices[0] - 18950))
        steps.append(abs(prices[2] - prices[1]))
    assert sum(jumps) > 5 * sum(steps)


def test_the_market_moves_together() -> None:
    made, moves = feed(9), {"BTC-USD": [], "ETH-USD": []}
    last: dict[str, int] = {}
    for q in walk(made, FRIDAY, 2000):
        if q.symbol in moves:
            moves[q.symbol].append(q.price / last.get(q.symbol, q.price) - 1)
            last[q.symbol] = q.price
    pairs = list(zip(moves["BTC-USD"], moves["ETH-USD"], strict=True))
    both = sum(a * b for a, b in pairs)
    alone = (sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs)) ** 0.5
    assert 0.2 < both / alone < 0.9


@given(st.integers(0, 2**32), st.integers(0, 10_000_000))
def test_quotes_are_whole_ticks_with_a_spread(seed: int, offset: int) -> None:
    for q in walk(feed(seed), FRIDAY + timedelta(seconds=offset), 3):
        assert 0 < q.bid < q.price < q.ask
        assert q.size > 0
        assert INSTRUMENTS[q.symbol].ticks(INSTRUMENTS[q.symbol].price(q.price)) == q.price


def test_goes_on_from_the_last_prices() -> None:
    made = feed(last_prices={"BTC-USD": 1_000_000})
    first = next(q for q in walk(made, FRIDAY, 1) if q.symbol == "BTC-USD")
    assert abs(first.price - 1_000_000) < 10_000


async def test_history_gives_every_instrument_a_price() -> None:
    made = feed(history=timedelta(minutes=10), clock=lambda: SATURDAY)
    found = [q async for batch in made.history() for q in batch]
    assert {q.symbol for q in found} == set(INSTRUMENTS)
    assert all(INSTRUMENTS[q.symbol].calendar.is_open(q.at) for q in found)
    assert max(q.at for q in found) < SATURDAY


@pytest.mark.parametrize(
    ("calendar", "at", "is_open"),
    [
        (Calendar.US_EQUITIES, datetime(2026, 11, 20, 14, 29, 59, tzinfo=UTC), False),
        (Calendar.US_EQUITIES, datetime(2026, 11, 20, 14, 30, tzinfo=UTC), True),
        (Calendar.US_EQUITIES, datetime(2026, 7, 20, 13, 30, tzinfo=UTC), True),
        (Calendar.US_EQUITIES, datetime(2026, 11, 20, 21, 0, tzinfo=UTC), False),
        (Calendar.FX, datetime(2026, 11, 20, 21, 59, tzinfo=UTC), True),
        (Calendar.FX, datetime(2026, 11, 20, 22, 0, tzinfo=UTC), False),
        (Calendar.FX, datetime(2026, 11, 22, 22, 0, tzinfo=UTC), True),
        (Calendar.ALWAYS, datetime(2026, 11, 22, 3, 0, tzinfo=UTC), True),
    ],
)
def test_sessions(calendar: Calendar, at: datetime, is_open: bool) -> None:
    assert calendar.is_open(at) is is_open


def test_a_price_between_two_ticks_is_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of the tick size"):
        INSTRUMENTS["BTC-USD"].ticks(Decimal("1.005"))


@given(st.lists(st.tuples(st.sampled_from(["BTC-USD", "ETH-USD"]), st.integers(1, 1000)), max_size=40))
def test_numbers_have_no_holes_and_statistics_hold(found: list[tuple[str, int]]) -> None:
    ticks = Sequencer({}).number([quote(symbol, price + 1) for symbol, price in found])
    for symbol in {"BTC-USD", "ETH-USD"}:
        mine = [t for t in ticks if t.symbol == symbol]
        assert [t.seq for t in mine] == list(range(1, len(mine) + 1))
        for n, each in enumerate(mine, start=1):
            prices = [t.price for t in mine[:n]]
            assert (each.high, each.low, each.open, each.volume) == (max(prices), min(prices), prices[0], n)


def test_a_new_day_begins_with_the_old_price_as_reference() -> None:
    sequencer = Sequencer({})
    sequencer.number([quote(price=100)])
    (first,) = sequencer.number([quote(price=150, at=FRIDAY + timedelta(days=1))])
    assert (first.reference, first.open, first.volume, first.seq) == (100, 150, 1, 2)


class Breakable(MemoryCache):
    broken = False

    async def write_hash(self, name: str, fields: Mapping[str, bytes]) -> None:
        if self.broken:
            raise Unavailable("cache", "gone")
        await super().write_hash(name, fields)


class BreakableBus(MemoryBus):
    broken = False

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        if self.broken:
            raise Unavailable("bus", "gone")
        await super().publish(topic, records)


class Rig:
    """A collector with a cache and a bus that can break, and what came out."""

    def __init__(self) -> None:
        self.cache, self.bus = Breakable(), BreakableBus()

    async def start(self) -> Collector:
        from app.events.registry import FAMILIES

        await self.bus.ensure([FAMILIES[TOPIC].topic])
        collector = Collector(self.bus, self.cache)
        await collector.resume()
        return collector

    async def publish(self, collector: Collector) -> None:
        """Publish until the queue is empty or the bus is gone."""
        task = asyncio.create_task(collector.publish())
        await asyncio.wait((task,), timeout=0.05)
        task.cancel()
        await asyncio.wait((task,))

    async def published(self) -> list[PriceTick]:
        subscription = await self.bus.subscribe([TOPIC], f"reader-{id(object())}")
        messages = await subscription.batch(limit=100_000, seconds=0.01)
        await subscription.close()
        return [PriceTick.model_validate(Envelope.decode(m.value).payload) for m in messages]


async def test_resumes_its_numbers_from_the_cache() -> None:
    rig = Rig()
    first = await rig.start()
    await first.take([quote(), quote()])
    await rig.publish(first)
    second = await rig.start()
    await second.take([quote()])
    await rig.publish(second)
    ticks = await rig.published()
    assert [t.seq for t in ticks] == [1, 2, 3]
    assert len({t.epoch for t in ticks}) == 1


async def test_a_crash_before_publishing_leaves_a_gap_never_a_repetition() -> None:
    rig = Rig()
    first = await rig.start()
    await first.take([quote()])
    await rig.publish(first)
    await first.take([quote()])
    second = await rig.start()
    await second.take([quote()])
    await rig.publish(second)
    assert [t.seq for t in await rig.published()] == [1, 3]


async def test_a_price_in_the_cache_that_cannot_be_read_means_a_new_epoch_for_all() -> None:
    rig = Rig()
    first = await rig.start()
    await first.take([quote(), quote("ETH-USD")])
    await rig.publish(first)
    await rig.cache.write_hash("prices:latest", {"ETH-USD": b"{}"})
    second = await rig.start()
    await second.take([quote(), quote("ETH-USD")])
    await rig.publish(second)
    places = [(t.symbol, t.epoch, t.seq) for t in await rig.published()]
    assert len(set(places)) == 4
    assert len({epoch for _, epoch, _ in places}) == 2


async def test_an_epoch_that_was_handed_over_goes_on_also_for_symbols_that_passed_the_cache_by() -> None:
    """One symbol trades while the cache is away and then no more, another one has an older epoch."""
    rig = Rig()
    first = await rig.start()
    await first.take([quote(), quote("ETH-USD"), quote("SOL-USD")])
    rig.cache.broken = True
    await first.take([quote(), quote("ETH-USD")])
    rig.cache.broken = False
    await rig.publish(first)
    epoch = await first.drain()
    second = Collector(rig.bus, rig.cache)
    await second.resume(epoch=epoch)
    await second.take([quote(), quote("ETH-USD"), quote("SOL-USD")])
    await rig.publish(second)
    places = [(t.symbol, t.epoch, t.seq) for t in await rig.published()]
    assert len(places) == len(set(places)) == 8
    assert {(symbol, seq) for symbol, each, seq in places if each == epoch} == {
        *(("BTC-USD", seq) for seq in (1, 2)),
        *(("ETH-USD", seq) for seq in (1, 2)),
        ("SOL-USD", 1),
    }


async def test_an_empty_cache_means_a_new_epoch() -> None:
    rig = Rig()
    for _ in range(2):
        rig.cache = Breakable()
        collector = await rig.start()
        await collector.take([quote()])
        await rig.publish(collector)
    ticks = await rig.published()
    assert [t.seq for t in ticks] == [1, 1]
    assert len({t.epoch for t in ticks}) == 2


async def test_numbers_are_never_given_out_twice_when_the_cache_was_away() -> None:
    rig = Rig()
    collector = await rig.start()
    await collector.take([quote()])
    rig.cache.broken = True
    await collector.take([quote(), quote()])
    await collector.take([quote()])
    await rig.publish(collector)
    rig.cache.broken = False
    restarted = await rig.start()
    await restarted.take([quote()])
    await rig.publish(restarted)
    places = [(t.epoch, t.seq) for t in await rig.published()]
    assert len(places) == len(set(places)) == 5


async def test_the_cache_is_written_again_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.price_collector.service._CACHE_PAUSE", 0.0)
    rig = Rig()
    collector = await rig.start()
    rig.cache.broken = True
    await collector.take([quote()])
    rig.cache.broken = False
    await collector.take([quote()])
    await rig.publish(collector)
    last = (await rig.published())[-1]
    assert (await read_latest(rig.cache))["BTC-USD"] == last


async def test_waits_for_the_bus_in_order_and_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.price_collector.service._BUFFER", 50)
    rig = Rig()
    collector = await rig.start()
    rig.bus.broken = True
    for _ in range(80):
        await collector.take([quote()])
    await rig.publish(collector)
    rig.bus.broken = False
    await rig.publish(collector)
    assert [t.seq for t in await rig.published()] == list(range(31, 81))
