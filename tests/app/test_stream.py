"""Followers of the matching engine: every change once and in order, whatever the bus does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.events import stream
from app.events.matching import Answer, CommandRejected, MatchingOutput
from app.kit.bus import Bus, Message, Record, Subscription, Topic
from app.kit.bus.memory import MemoryBus
from app.kit.database import Database
from app.kit.errors import Unavailable
from tests.app.outputs import accepted, entries, output, records, trade

SECONDS = 30.0
EFFECTS = Table(
    "effects",
    MetaData(),
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("consumer", String(40)),
    Column("symbol", String(20)),
    Column("sequence", BigInteger),
)


class Effects:
    """A consumer whose effect is a row for each change."""

    def __init__(self, bus: Bus, database: Database, consumer: str = "effects") -> None:
        self.bus = bus
        self.database = database
        self.consumer = consumer
        self.asked: list[tuple[str, int]] = []
        self.failures: list[Exception] = []
        """Raised after the effect, one for each call, the first one first."""
        self.resync: Callable[[str, int], Awaitable[None]] = self.note
        self.changed = asyncio.Event()

    async def handler(self, session: AsyncSession, outputs: Sequence[MatchingOutput]) -> None:
        rows = [
            {"consumer": self.consumer, "symbol": one.symbol, "sequence": change.sequence}
            for one in outputs
            for change in one.changes
        ]
        await session.execute(insert(EFFECTS), rows)
        if self.failures:
            self.changed.set()
            raise self.failures.pop(0)

    async def note(self, symbol: str, after: int) -> None:
        self.asked.append((symbol, after))

    async def run(self) -> None:
        """As the supervisor of a role: starts again after a failure."""
        while True:
            try:
                await stream.follow(self.bus, self.database, self.consumer, self.handler, self.resync)
            except Unavailable:
                await asyncio.sleep(0.01)

    async def rows(self, symbol: str = "BTC-USD") -> list[int]:
        chosen = select(EFFECTS.c.sequence).where(
            EFFECTS.c.consumer == self.consumer, EFFECTS.c.symbol == symbol
        )
        async with self.database.transaction(read_only=True) as session:
            return list(await session.scalars(chosen.order_by(EFFECTS.c.id)))

    async def until(self, count: int, symbol: str = "BTC-USD") -> list[int]:
        async with asyncio.timeout(SECONDS):
            while len(found := await self.rows(symbol)) < count:
                await asyncio.sleep(0.02)
        return found


@asynccontextmanager
async def following(*consumers: Effects) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one.run()) for one in consumers]
    try:
        yield
        failed = [task for task in tasks if task.done()]
        assert not failed, failed
    finally:
        for task in tasks:
            while not task.done():
                task.cancel()
                await asyncio.wait((task,), timeout=1.0)


@pytest.fixture
async def topic(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> str:
    """A topic of the test's own: the broker is shared."""
    name = f"matching.output.{uuid4().hex}"
    monkeypatch.setattr(stream, "TOPIC", name)
    await bus.ensure([Topic(name, 3, 3600)])
    return name


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_ASK_SECONDS", 0.1)
    monkeypatch.setattr(stream, "_WAIT_SECONDS", 0.05)


@pytest.fixture
async def effects(bus: Bus, database: Database) -> Effects:
    async with database.engine.begin() as connection:
        await connection.run_sync(EFFECTS.metadata.create_all)
    return Effects(bus, database)


async def place(database: Database, consumer: str, symbol: str = "BTC-USD") -> tuple[int, int]:
    row = stream.StreamPositionRow
    async with database.transaction(read_only=True) as session:
        found = await session.get_one(row, (consumer, symbol))
        return found.sequence, found.seen


async def test_duplicates_and_overlaps_have_one_effect(effects: Effects, topic: str) -> None:
    sent = [entries(1, 3), entries(1, 3), entries(2, 5), entries(4, 4), entries(6, 6), entries(1, 7)]
    await effects.bus.publish(topic, records([*sent, entries(1, 2, "ETH-USD")]))
    async with following(effects):
        assert await effects.until(7) == [1, 2, 3, 4, 5, 6, 7]
        assert await effects.until(2, "ETH-USD") == [1, 2]
        await effects.bus.publish(topic, records([*sent, entries(8, 8)]))
        assert await effects.until(8) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert effects.asked == []
    assert await place(effects.database, "effects") == (8, 8)


async def test_what_is_missing_is_asked_for_until_it_comes(effects: Effects, topic: str) -> None:
    await effects.bus.publish(topic, records([entries(1, 2), entries(5, 6), entries(1, 1, "ETH-USD")]))
    labels = {"consumer": "effects", "symbol": "BTC-USD"}
    async with following(effects):
        assert await effects.until(1, "ETH-USD") == [1]
        async with asyncio.timeout(SECONDS):
            while len(effects.asked) < 3:
                await asyncio.sleep(0.01)
        assert set(effects.asked) == {("BTC-USD", 2)}
        assert REGISTRY.get_sample_value("stream_gaps", labels) == 1
        assert await effects.rows() == [1, 2]
        assert await place(effects.database, "effects") == (2, 6)
        # Others follow while the gap is open; what lies behind it waits for what lies before.
        await effects.bus.publish(topic, records([entries(7, 7), entries(2, 2, "ETH-USD")]))
        assert await effects.until(2, "ETH-USD") == [1, 2]
        assert await effects.rows() == [1, 2]
        await effects.bus.publish(topic, records([entries(3, 4), entries(5, 6), entries(7, 7)]))
        assert await effects.until(7) == [1, 2, 3, 4, 5, 6, 7]
        async with asyncio.timeout(SECONDS):
            while REGISTRY.get_sample_value("stream_gaps", labels):
                await asyncio.sleep(0.01)
        asked = len(effects.asked)
        await effects.bus.publish(topic, records([entries(8, 8)]))
        await effects.until(8)
        assert len(effects.asked) == asked


async def test_what_is_coming_is_not_asked_for_again(
    effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_ASK_SECONDS", 0.0)
    follower = stream._Follower(effects.database, effects.consumer, effects.handler, effects.resync)

    async def asked() -> list[tuple[str, int]]:
        effects.asked.clear()
        await follower.look_for_gaps()
        if follower._asking is not None:
            await follower._asking
        return list(effects.asked)

    await follower.take([entries(1, 2), entries(9, 9)])
    assert await asked() == [("BTC-USD", 2)]
    await follower.take([entries(3, 5)])
    assert await asked() == []
    assert await asked() == [("BTC-USD", 5)]
    await follower.take([entries(6, 9)])
    assert await asked() == []


async def test_a_gap_is_known_after_a_restart_and_a_failing_engine_stops_nothing(
    effects: Effects, topic: str
) -> None:
    refused = 0

    async def refuse(symbol: str, _: int) -> None:
        nonlocal refused
        refused += 1
        if symbol == "BTC-USD":
            raise Unavailable("matching-engine", "no leader")
        effects.asked.append((symbol, 0))

    effects.resync = refuse
    await effects.bus.publish(topic, records([entries(4, 4), entries(3, 3, "ETH-USD")]))
    async with following(effects):
        async with asyncio.timeout(SECONDS):
            while refused < 3 or ("ETH-USD", 0) not in effects.asked:
                await asyncio.sleep(0.01)

    async def republish(symbol: str, after: int) -> None:
        effects.asked.append((symbol, after))
        await effects.bus.publish(topic, records([entries(after + 1, 4, symbol)]))

    effects.resync = republish
    effects.asked.clear()
    async with following(effects):
        assert await effects.until(4) == [1, 2, 3, 4]
        assert await effects.until(4, "ETH-USD") == [1, 2, 3, 4]
    assert set(effects.asked) == {("BTC-USD", 0), ("ETH-USD", 0)}


async def test_consumers_are_apart_and_replicas_share(effects: Effects, topic: str) -> None:
    bus, database = effects.bus, effects.database
    replicas = [effects, Effects(bus, database)]
    other = Effects(bus, database, "other")
    symbols = ("BTC-USD", "ETH-USD", "AAPL", "EUR-USD")
    sent = [entries(n, n + 1, symbol) for n in range(1, 60, 2) for symbol in symbols]
    async with following(*replicas, other):
        for begin in range(0, len(sent), 10):
            await bus.publish(topic, records(sent[max(0, begin - 5) : begin + 10]))
        for symbol in symbols:
            assert await effects.until(60, symbol) == list(range(1, 61))
            assert await other.until(60, symbol) == list(range(1, 61))
    for one in (effects, other):
        assert [len(await one.rows(symbol)) for symbol in symbols] == [60] * 4


async def test_two_that_have_the_same_messages_do_not_apply_them_twice(
    effects: Effects, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    """As after a partition has changed hands before its offsets were committed."""
    made = [MemoryBus() for _ in range(3)]
    for bus in made:
        await bus.ensure([Topic(topic, 3, 3600)])
        await bus.publish(topic, records([entries(n, n + 4) for n in range(1, 500, 5)]))
    consumers = [Effects(bus, effects.database) for bus in made]
    async with following(*consumers):
        assert await effects.until(500) == list(range(1, 501))
        await asyncio.gather(*(bus.publish(topic, records([entries(501, 501)])) for bus in made))
        assert await effects.until(501) == list(range(1, 502))


async def test_a_failing_handler_leaves_nothing_and_gets_all_again(effects: Effects, topic: str) -> None:
    effects.failures = [ValueError("cannot be applied")]
    await effects.bus.publish(topic, records([entries(1, 3)]))
    with pytest.raises(ValueError, match="cannot be applied"):
        async with asyncio.timeout(SECONDS):
            await effects.run()
    assert await effects.rows() == []
    effects.failures = [Unavailable("database", "gone for a moment")]
    async with following(effects):
        assert await effects.until(3) == [1, 2, 3]
    assert effects.failures == []


async def test_a_crash_before_the_offsets_repeats_nothing(effects: Effects, topic: str) -> None:
    class Crashing:
        """A bus whose subscriptions lose their first commit."""

        def __init__(self, bus: Bus) -> None:
            self.bus = bus
            self.crashes = 0

        async def subscribe(self, topics: Sequence[str], group: str | None) -> Subscription:
            subscription = await self.bus.subscribe(topics, group)
            commit = subscription.commit

            async def crash_once(messages: Sequence[Message]) -> None:
                self.crashes += 1
                if self.crashes == 1:
                    raise Unavailable("bus", "crashed")
                await commit(messages)

            subscription.commit = crash_once  # type: ignore[method-assign]
            return subscription

    real = effects.bus
    effects.bus = crashing = Crashing(real)  # type: ignore[assignment]
    await real.publish(topic, records([entries(1, 3)]))
    async with following(effects):
        await effects.until(3)
        async with asyncio.timeout(SECONDS):
            while crashing.crashes < 2:
                await asyncio.sleep(0.01)
        await real.publish(topic, records([entries(4, 4)]))
        assert await effects.until(4) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b'{"type":"MatchingOutput","version":2,"payload":{}}',
        records([entries(1, 2).model_copy(update={"last": 3})])[0].value,
        records([entries(1, 2).model_copy(update={"changes": (accepted(1), accepted(3))})])[0].value,
    ],
    ids=["no json", "another version", "not all changes", "not those changes"],
)
async def test_what_is_no_output_stops_the_consumer(effects: Effects, topic: str, value: bytes) -> None:
    await effects.bus.publish(topic, [Record("BTC-USD", value)])
    for _ in range(2):  # it comes again
        with pytest.raises(stream.Unreadable, match="offset"):
            async with asyncio.timeout(SECONDS):
                await effects.run()
    assert await effects.rows() == []


@pytest.mark.parametrize(
    ("place", "answered"),
    [(0, [11, 12, 13, 14, 15]), (2, [12, 13, 14, 15]), (3, [13, 14, 15]), (4, [15]), (6, [])],
)
def test_answers_of_dropped_changes_are_dropped(place: int, answered: list[int]) -> None:
    # 13 and 14 are a pair that was rejected: one change names the first of them.
    rejected = CommandRejected(sequence=4, command="place", order_id=13, owner="anna", reason="no")
    made = output(
        [accepted(1, 11), trade(2), accepted(3, 12), rejected, accepted(5, 15), trade(6), trade(7)],
        answers=[Answer(order_id=number, status="open", filled=0) for number in range(11, 16)],
    )
    (cut,) = stream.fitting([made], {"BTC-USD": place}).outputs
    assert (cut.first, cut.last) == (place + 1, 7)
    assert [change.sequence for change in cut.changes] == list(range(place + 1, 8))
    assert [answer.order_id for answer in cut.answers] == answered


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.integers(1, 12)), max_size=30),
    st.integers(0, 5),
)
def test_whatever_comes_in_whatever_order_nothing_is_applied_twice_or_out_of_order(
    sizes: list[int], slices: list[tuple[int, int]], place: int
) -> None:
    made: list[MatchingOutput] = []
    end = 0
    for size in sizes:
        made.append(entries(end + 1, end + size))
        end += size
    delivered = [one for begin, count in slices for one in made[begin : begin + count]]
    places = {"BTC-USD": place}
    applied: list[int] = []
    for begin in range(0, len(delivered), 4):
        found = stream.fitting(delivered[begin : begin + 4], places)
        applied += [change.sequence for one in found.outputs for change in one.changes]
        for one in found.outputs:
            assert [answer.order_id for answer in one.answers] == [c.sequence for c in one.changes]
        places = {**places, **found.places}
    assert applied == list(range(place + 1, place + 1 + len(applied)))
    # In the end, all is there as soon as everything has come in order once.
    last = stream.fitting(made, places)
    assert last.places["BTC-USD"] == max(place, end)
