"""The history of prices: pages, gaps, longer candles, what is kept and what comes back after an outage."""

import asyncio
import importlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, text

from app.events.envelope import Envelope
from app.events.prices import PriceTick
from app.events.registry import FAMILIES
from app.kit import schema
from app.kit.bus import Bus, Record
from app.kit.bus.memory import MemoryBus
from app.kit.database import Database
from app.kit.errors import ConfigurationError, Unavailable
from app.kit.lease import Lease
from app.market_data import history, partitions
from app.market_data.candles import Candle, fill_gaps, start_of
from app.market_data.models import CandleRow, DayRow, HourRow
from app.market_data.partitions import Layout, Month
from app.market_data.retention import Retention
from app.market_data.service import CandleWriter
from app.market_data.settings import MarketDataSettings
from tests.app.platform import running
from tests.app.ticks import BEGIN, expected, tick, ticks_of

INTERVALS = (60, 300, 900, 3600, 14_400, 86_400)
migration = importlib.import_module("app.migrations.versions.0009_candles")


def recently() -> int:
    """Unix time in milliseconds some hours ago: a role that runs drops what is old."""
    return int((time.time() - 10_000) * 1000)


async def page(database: Database, seconds: int, **wanted: object) -> history.Page:
    asked = {"start": None, "end": None, "limit": 1000, **wanted}
    async with database.transaction(read_only=True) as session:
        await history.one_moment(session)
        return await history.page(session, history.Query("BTC-USD", seconds, **asked))  # type: ignore[arg-type]


WEEKS = ticks_of([(700_000 + 37_000 * (n % 11), 100 + (n * 37) % 91, 1 + n % 5) for n in range(2000)])
"""Two weeks of trades, some 15 minutes apart."""


async def test_every_interval_is_exact_however_the_ticks_come(
    database: Database, memory_bus: MemoryBus
) -> None:
    writer = CandleWriter(database, memory_bus)
    for begin in range(0, len(WEEKS), 300):
        await writer.take(WEEKS[begin : begin + 330])
    for seconds in INTERVALS:
        assert (await page(database, seconds)).candles == expected(WEEKS, seconds)[-1000:]


@pytest.mark.parametrize("seconds", INTERVALS)
@pytest.mark.parametrize("fill", [False, True])
async def test_pages_in_both_directions_leave_nothing_out(
    database: Database, memory_bus: MemoryBus, seconds: int, fill: bool
) -> None:
    ticks = WEEKS[:300]
    await CandleWriter(database, memory_bus).take(ticks)
    whole = expected(ticks, seconds)
    if fill:
        whole = fill_gaps(whole, None, whole[0].start, whole[-1].start + seconds, seconds)
    size = max(2, len(whole) // 4 + 1)
    backward = await page(database, seconds, limit=size, fill=fill)
    assert not backward.after
    found = backward.candles
    while backward.before:
        backward = await page(database, seconds, limit=size, end=found[0].start, fill=fill)
        assert backward.after
        found = [*backward.candles, *found]
    assert found == whole
    forward = await page(database, seconds, limit=size, forward=True, fill=fill)
    assert not forward.before
    found = forward.candles
    while forward.after:
        start = found[-1].start + seconds
        forward = await page(database, seconds, limit=size, start=start, forward=True, fill=fill)
        assert forward.before
        found = [*found, *forward.candles]
    assert found == whole


@given(st.sets(st.integers(0, 30), min_size=1), st.integers(0, 30), st.integers(0, 35))
def test_gaps_are_filled_with_the_last_close(minutes: set[int], low: int, high: int) -> None:
    candles = [Candle("BTC-USD", m * 60, 9, 12 + m, 5, 10 + m, 3, 2, closed=True) for m in sorted(minutes)]
    before = [candle for candle in candles if candle.start < low * 60]
    inside = [candle for candle in candles if low * 60 <= candle.start < high * 60]
    filled = fill_gaps(inside, before[-1] if before else None, low * 60, high * 60, 60)
    first = low if before else min((m for m in minutes if m >= low), default=high)
    assert [candle.start for candle in filled] == [m * 60 for m in range(first, high)]
    for candle in filled:
        last = max(m for m in minutes if m * 60 <= candle.start)
        if last * 60 != candle.start:
            price = 10 + last
            flat = Candle("BTC-USD", candle.start, price, price, price, price, 0, 0, closed=True)
            assert candle == flat


async def test_nothing_is_filled_behind_the_newest_candle_or_before_the_first(
    database: Database, memory_bus: MemoryBus
) -> None:
    await CandleWriter(database, memory_bus).take(ticks_of([(0, 100, 1), (300_000, 110, 1)]))
    begin = start_of(BEGIN)
    found = await page(database, 60, start=begin - 6000, end=begin + 6000, fill=True)
    assert [candle.start for candle in found.candles] == [begin + 60 * n for n in range(6)]
    assert [candle.volume for candle in found.candles] == [1, 0, 0, 0, 0, 1]
    assert (found.before, found.after) == (False, False)
    behind = await page(database, 60, start=begin + 600, fill=True, forward=True)
    assert behind == history.Page([], before=True, after=False)


async def test_the_running_candle_says_up_to_which_tick_it_counts(tmp_path: Path) -> None:
    async with running(tmp_path, "market-data") as platform:
        answer = await platform.get("market-data", "/api/market/candles/BTC-USD/running")
        assert (answer.status_code, answer.json()["code"]) == (404, "no-price")
        writer = CandleWriter(platform.backends.database, platform.backends.bus)
        ticks = ticks_of([(40_000, 6_400_000 + n, 100_000) for n in range(200)], recently())
        for count in (150, 200):
            await writer.take(ticks[:count])
            body = (await platform.get("market-data", "/api/market/candles/BTC-USD/running")).json()
            assert body["as_of"] == {"epoch": "e1", "seq": count}
            lengths = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14_400, "1d": 86_400}
            assert set(body["candles"]) == set(lengths)
            for name, seconds in lengths.items():
                newest = expected(ticks[:count], seconds)[-1]
                found = body["candles"][name]
                assert datetime.fromisoformat(found["start"]).timestamp() == newest.start
                assert (found["trades"], found["closed"]) == (newest.trades, False)
                assert float(found["close"]) == newest.close / 100
                assert float(found["volume"]) == newest.trades


async def test_the_api_leads_from_page_to_page(tmp_path: Path) -> None:
    async with running(tmp_path, "market-data") as platform:
        ticks = ticks_of([(60_000, 6_400_000 + n, 1) for n in range(50)], recently())
        await CandleWriter(platform.backends.database, platform.backends.bus).take(ticks)

        async def get(**options: str) -> dict[str, object]:
            answer = await platform.get("market-data", "/api/market/candles/BTC-USD", params=options)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        def starts(found: dict[str, object]) -> list[str]:
            return [candle["start"] for candle in found["candles"]]  # type: ignore[index,attr-defined]

        newest = await get(limit="20")
        assert newest["next"] is None
        assert newest["as_of"] == {"epoch": "e1", "seq": 50}
        older = await get(limit="20", end=str(newest["previous"]))
        oldest = await get(limit="20", end=str(older["previous"]))
        assert oldest["previous"] is None
        again = await get(limit="20", start=str(oldest["next"]), direction="forward")
        assert len(starts(oldest)) == 10
        assert starts(again) == starts(older)
        assert (await get(limit="20", start=str(again["next"]), direction="forward"))["next"] is None
        for wrong in ({"limit": "0"}, {"limit": "1001"}, {"fill": "zero"}, {"direction": "up"}):
            answer = await platform.get("market-data", "/api/market/candles/BTC-USD", params=wrong)
            assert answer.status_code == 422, wrong
            assert next(iter(wrong)) in answer.text


NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def months_of_trades() -> list[PriceTick]:
    """One trade in each of two hours of a day, for every month of four years until now."""
    moments = [
        datetime(2022 + n // 12, n % 12 + 1, 15, hour, 30, tzinfo=UTC) for n in range(59) for hour in (3, 9)
    ]
    return [
        tick(seq=seq, at=int(at.timestamp() * 1000), price=100 + seq % 7)
        for seq, at in enumerate(moments, start=1)
        if at <= NOW
    ]


@asynccontextmanager
async def retaining(
    database: Database, now: datetime = NOW, **settings: int
) -> AsyncIterator[tuple[Retention, int]]:
    lease = Lease(database, "candle-retention", "http://test", ttl=60)
    token = await lease.acquire()
    assert token is not None
    yield Retention(database, lease, MarketDataSettings.load(**settings), now.timestamp), token
    await lease.release(token)


async def test_old_minutes_and_hours_go_in_whole_months_and_days_stay(
    database: Database, memory_bus: MemoryBus
) -> None:
    ticks = months_of_trades()
    await CandleWriter(database, memory_bus).take(ticks)
    days = (await page(database, 86_400)).candles
    async with retaining(database) as (retention, token):
        dropped = await retention.round(token)
        assert dropped["candles"][-1] == "candles_2026_07"  # the 23rd of August is 90 days ago
        assert dropped["candle_hours"][-1] == "candle_hours_2024_10"
        assert await retention.round(token) == {"candles": [], "candle_hours": []}
    minutes = (await page(database, 60)).candles
    hours = (await page(database, 3600)).candles
    assert minutes[0].start == datetime(2026, 8, 15, 3, 30, tzinfo=UTC).timestamp()
    assert hours[0].start == datetime(2024, 11, 15, 3, tzinfo=UTC).timestamp()
    assert (await page(database, 86_400)).candles == days == expected(ticks, 86_400)


async def test_what_is_not_rolled_up_is_before_it_goes(database: Database, memory_bus: MemoryBus) -> None:
    ticks = months_of_trades()
    await CandleWriter(database, memory_bus).take(ticks)
    async with database.transaction() as session:
        await session.execute(delete(HourRow))
        await session.execute(delete(DayRow))
    async with retaining(database, hour_days=3650) as (retention, token):
        await retention.round(token)
    begin = datetime(2026, 8, 1, tzinfo=UTC)
    gone = [each for each in ticks if each.at < begin.timestamp() * 1000]
    found = (await page(database, 3600, end=int(begin.timestamp()))).candles
    assert [(c.start, c.volume) for c in found] == [(c.start, c.volume) for c in expected(gone, 3600)]


async def test_what_an_older_version_stored_is_rolled_up_within_an_hour(
    database: Database, memory_bus: MemoryBus
) -> None:
    ticks = months_of_trades()
    await CandleWriter(database, memory_bus).take(ticks)
    latest = expected(ticks, 3600)[-1].start
    async with database.transaction() as session:
        await session.execute(delete(HourRow).where(HourRow.start >= latest))
    with pytest.raises(Unavailable, match="not rolled up"):
        async with database.transaction(read_only=True) as session:
            await history.running(session, ticks[-1].symbol, [60, 3600])
    moment = datetime.fromtimestamp(latest + 3600, UTC)
    async with retaining(database, moment) as (retention, token):
        await retention.round(token)
    assert (await page(database, 3600)).candles[-1] == expected(ticks, 3600)[-1]


async def test_a_retention_without_the_lease_drops_nothing(database: Database, memory_bus: MemoryBus) -> None:
    await CandleWriter(database, memory_bus).take(months_of_trades())
    async with retaining(database) as (retention, token):
        await Lease(database, "candle-retention", "http://other", ttl=60).release(token)
        async with database.transaction() as session:
            await session.execute(text("UPDATE leases SET token = token + 1"))
        assert await retention.round(token) == {}
    assert len((await page(database, 60)).candles) == len(months_of_trades())


async def test_partitions_are_made_ahead_and_have_a_brin_index(postgresql_database: Database) -> None:
    async with retaining(postgresql_database, NOW) as (retention, token):
        await retention.round(token)
    async with postgresql_database.transaction(read_only=True) as session:
        for table in (CandleRow, HourRow):
            assert await partitions.layout(session, table) is Layout.PARTITIONS
            made = await partitions.months(session, table)
            assert made == [Month(2026, 11), Month(2026, 12), Month(2027, 1)]
            name = made[0].partition(table.__tablename__)
            found = await session.scalars(
                text("SELECT indexdef FROM pg_indexes WHERE tablename = :name"), {"name": name}
            )
            assert any("USING brin (start)" in definition for definition in found)


async def test_a_long_interval_reads_no_minutes(postgresql_database: Database, memory_bus: MemoryBus) -> None:
    """Whatever the history is: the plan of the question has no partition of minutes in it."""
    database = postgresql_database
    await CandleWriter(database, memory_bus).take(WEEKS)
    async with database.transaction() as session:
        await session.execute(delete(CandleRow))
    assert (await page(database, 86_400)).candles == expected(WEEKS, 86_400)
    assert (await page(database, 14_400)).candles == expected(WEEKS, 14_400)


def test_a_shorter_time_for_longer_candles_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="APP_MARKET_HOUR_DAYS=31: at least APP_MARKET_MINUTE_DAYS"):
        MarketDataSettings.load(minute_days=90, hour_days=31)


async def test_an_outage_of_the_role_leaves_no_gap(database: Database, bus: Bus) -> None:
    """What was published meanwhile is on the bus for an hour, and counts once when the role is back."""
    ticks = ticks_of([(20_000, 6_400_000 + n % 13, 1 + n % 3) for n in range(120)])
    await bus.ensure([family.topic for family in FAMILIES.values()])

    async def publish(begin: int, end: int) -> None:
        await bus.publish(
            "price.updates",
            [
                Record(t.symbol, Envelope.of(t, key=t.symbol, producer="test").encode())
                for t in ticks[begin:end]
            ],
        )

    await publish(0, 40)
    await _follow_until(CandleWriter(database, bus), database, 40)
    await publish(40, 80)  # while the role is away
    await _follow_until(CandleWriter(database, bus), database, 80)
    await publish(80, 120)
    await _follow_until(CandleWriter(database, bus), database, 120)
    assert (await page(database, 60)).candles == expected(ticks, 60)


async def _follow_until(writer: CandleWriter, database: Database, seq: int) -> None:
    task = asyncio.create_task(writer.run())
    async with asyncio.timeout(30):
        while True:
            async with database.transaction(read_only=True) as session:
                found = await history.place(session, "BTC-USD")
            if found is not None and found.seq >= seq:
                break
            await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait((task,))


def test_the_layout_follows_the_catalogue() -> None:
    assert partitions.layout_of("p", extended=False) is Layout.PARTITIONS
    assert partitions.layout_of("p", extended=True) is Layout.PARTITIONS
    assert partitions.layout_of("r", extended=True) is Layout.CHUNKS
    assert partitions.layout_of("r", extended=False) is Layout.PLAIN
    assert migration.choose(None) == "none"
    assert migration.choose((None,)) == "create"
    assert migration.choose(("2.17.2",)) == "use"
    wanted = "SELECT drop_chunks('candles', older_than => CAST(1700000000 AS bigint))"
    assert partitions.drop_chunks("candles", 1_700_000_000) == wanted


async def test_a_partitioned_table_becomes_one_for_timescaledb_with_all_its_rows(
    postgresql_database: Database, memory_bus: MemoryBus
) -> None:
    """On a server without the extension, whose functions are stood in for: what they do is not shown here."""
    database = postgresql_database
    ticks = months_of_trades()
    await CandleWriter(database, memory_bus).take(ticks)
    async with database.transaction() as session:
        await session.execute(
            text(
                "CREATE FUNCTION create_hypertable(relation regclass, time_column name, "
                "chunk_time_interval bigint, migrate_data boolean, create_default_indexes boolean) "
                "RETURNS text LANGUAGE sql AS $$ SELECT relation::text $$"
            )
        )
        for table in ("candles", "candle_hours"):
            for statement in migration.to_hypertable(table):
                await session.execute(text(statement))
        assert await partitions.layout(session, CandleRow) is Layout.PLAIN
    for seconds in (60, 3600):
        assert (await page(database, seconds)).candles == expected(ticks, seconds)
    later = tick(seq=1000, at=int((NOW + timedelta(days=90)).timestamp() * 1000))
    await CandleWriter(database, memory_bus).take([later])
    await schema.to(database, "-1")
    async with database.transaction(read_only=True) as session:
        assert await partitions.layout(session, CandleRow) is Layout.PARTITIONS
        assert await session.scalar(select(func.count()).select_from(CandleRow)) == len(ticks) + 1
    await schema.to(database)
    assert (await page(database, 3600)).candles == expected([*ticks, later], 3600)
