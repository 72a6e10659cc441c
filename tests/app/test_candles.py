"""Candles are exact, whatever is delivered twice."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from app.events.envelope import Envelope
from app.events.prices import PriceTick
from app.events.reading import payloads
from app.kit.bus import Record
from app.kit.bus.memory import MemoryBus
from app.kit.database import Database
from app.market_data import history
from app.market_data.candles import MINUTE, Aggregator, Candle, start_of, unseen
from app.market_data.service import CandleWriter
from tests.app.ticks import expected, tick, ticks_of

trades = st.lists(
    st.tuples(st.integers(0, 40_000), st.integers(1, 10_000), st.integers(1, 500)), min_size=1, max_size=60
)


@given(trades, st.integers(0, 60))
def test_aggregation_is_the_obvious_one_however_the_ticks_are_split(
    found: list[tuple[int, int, int]], cut: int
) -> None:
    ticks = ticks_of(found)
    stored: dict[int, Candle] = {}
    closed: list[int] = []
    for part in (ticks[:cut], ticks[cut:]):
        newest = stored[max(stored)] if stored else None
        aggregator = Aggregator(newest)
        for each in part:
            aggregator.add(each)
        stored |= aggregator.changed
        closed += [candle.start for candle in aggregator.closed]
    wanted = expected(ticks)
    assert [stored[start] for start in sorted(stored)] == wanted
    assert closed == [candle.start for candle in wanted if candle.closed]


@given(
    st.lists(st.tuples(st.sampled_from(["e1", "e2", "e3"]), st.integers(1, 8)), max_size=40),
    st.lists(st.integers(0, 40), max_size=5),
)
def test_every_number_of_an_epoch_counts_once_however_often_it_comes(
    places: list[tuple[str, int]], redelivered_from: list[int]
) -> None:
    delivered = [tick(epoch=epoch, seq=seq) for epoch, seq in places]
    marks: dict[str, int] = {}
    counted = []
    for begin in [0, *redelivered_from]:
        for fresh in unseen(delivered[begin:], marks):
            counted.append((fresh.epoch, fresh.seq))
            marks[fresh.epoch] = fresh.seq
    assert len(counted) == len(set(counted))
    for epoch in ("e1", "e2", "e3"):
        mine = [seq for e, seq in counted if e == epoch]
        assert mine == sorted(mine)
        assert max(mine, default=0) == max((seq for e, seq in places if e == epoch), default=0)


def test_a_tick_of_a_finished_minute_changes_nothing() -> None:
    aggregator = Aggregator(None)
    for each in ticks_of([(0, 100, 1), (60_000, 120, 1)]):
        aggregator.add(each)
    before = [vars(candle).copy() for candle in aggregator.changed.values()]
    aggregator.add(tick(seq=9, at=1_600_000_000_000, price=1))
    assert [vars(candle) for candle in aggregator.changed.values()] == before
    assert aggregator.late == 1


@given(st.integers(0, 4_000_000_000_000), st.sampled_from([60, 300, 900, 3600, 86400]))
def test_a_moment_lies_within_its_interval(at: int, seconds: int) -> None:
    start = start_of(at, seconds)
    assert start % seconds == 0
    assert start * 1000 <= at < (start + seconds) * 1000


async def stored(
    database: Database,
    seconds: int = MINUTE,
    limit: int = 1000,
    start: int | None = None,
    end: int | None = None,
) -> list[Candle]:
    async with database.transaction(read_only=True) as session:
        page = await history.page(session, history.Query("BTC-USD", seconds, start, end, limit))
    return page.candles


async def test_redelivered_ticks_count_once(database: Database, memory_bus: MemoryBus) -> None:
    writer = CandleWriter(database, memory_bus)
    ticks = ticks_of([(9_000, 100 + n % 7, n) for n in range(1, 30)])
    await writer.take(ticks[:12])
    await writer.take(ticks[5:20])
    await writer.take(ticks[:20])
    await writer.take(ticks[20:])
    assert await stored(database) == expected(ticks)


async def test_ticks_of_two_epochs_that_come_again_count_once(
    database: Database, memory_bus: MemoryBus
) -> None:
    writer = CandleWriter(database, memory_bus)
    old = ticks_of([(1_000, 100, 1)] * 5)
    new = [each.model_copy(update={"epoch": "e2", "at": each.at + 10_000}) for each in old]
    for _ in range(2):
        await writer.take([*old, *new])
    assert sum(candle.trades for candle in await stored(database)) == 10


async def test_ticks_that_cannot_be_stored_stop_nothing(database: Database, memory_bus: MemoryBus) -> None:
    good = tick(seq=2)
    bad = [
        good.model_copy(update=change)
        for change in ({"symbol": "X" * 21}, {"epoch": "e" * 41}, {"price": 2**63}, {"at": 10**16})
    ]
    records = [
        Record("BTC-USD", Envelope.of(each, key="BTC-USD", producer="test").encode()) for each in [*bad, good]
    ]
    await memory_bus.publish("price.updates", records)
    subscription = await memory_bus.subscribe(["price.updates"], "test")
    found = list(payloads(await subscription.batch(10, seconds=1), PriceTick))
    assert found == [good]
    await CandleWriter(database, memory_bus).take(found)
    assert len(await stored(database)) == 1


async def test_a_finished_candle_leaves_one_event(database: Database, memory_bus: MemoryBus) -> None:
    writer = CandleWriter(database, memory_bus)
    ticks = ticks_of([(30_000, 100, 1)] * 7)
    await writer.take(ticks)
    await writer.take(ticks)
    async with database.transaction(read_only=True) as session:
        count = await session.scalar(text("SELECT count(*) FROM outbox"))
    assert count == sum(candle.closed for candle in expected(ticks))


async def test_longer_candles_are_put_together_exactly(database: Database, memory_bus: MemoryBus) -> None:
    ticks = ticks_of([(20_000, 100 + (n * 37) % 50, 1 + n % 5) for n in range(200)])
    await CandleWriter(database, memory_bus).take(ticks)
    found = await stored(database, seconds=900)
    assert found == expected(ticks, 900)
    assert [candle.start for candle in await stored(database, seconds=900, limit=2)] == [
        c.start for c in found[-2:]
    ]


async def test_a_range_that_cuts_candles_leaves_none_cut(database: Database, memory_bus: MemoryBus) -> None:
    await CandleWriter(database, memory_bus).take(ticks_of([(20_000, 100 + n, 1) for n in range(400)]))
    whole = await stored(database, seconds=900)
    cut = whole[2].start + 60
    assert await stored(database, seconds=900, start=cut) == whole[3:]
    assert await stored(database, seconds=900, end=cut) == whole[:3]
    assert await stored(database, seconds=900, start=whole[2].start, end=whole[4].start) == whole[2:4]


async def test_a_candle_whose_last_minutes_had_no_trade_is_closed_by_the_next(
    database: Database, memory_bus: MemoryBus
) -> None:
    """As at the end of every trading day of an exchange."""
    ticks = ticks_of([(0, 100, 1), (60_000, 101, 1), (7_200_000, 102, 1)])
    await CandleWriter(database, memory_bus).take(ticks)
    assert [candle.closed for candle in await stored(database, seconds=3600)] == [True, False]


async def test_postgresql_has_a_partition_for_each_month(
    postgresql_database: Database, memory_bus: MemoryBus
) -> None:
    database = postgresql_database
    moments = [
        datetime(2026, 11, 30, 23, 59, tzinfo=UTC),
        datetime(2026, 12, 31, 12, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    ]
    ticks = [tick(seq=n, at=int(at.timestamp() * 1000)) for n, at in enumerate(moments, start=1)]
    await CandleWriter(database, memory_bus).take(ticks)
    async with database.transaction(read_only=True) as session:
        partitions = text(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'candles'::regclass"
        )
        names = sorted(await session.scalars(partitions))
    assert names == ["candles_2026_11", "candles_2026_12", "candles_2027_01"]
    assert len(await stored(database)) == 3
