"""Order books on the bus: each is the leader's own, whatever happens to it, to the bus and to the leader."""

import asyncio
import random
from typing import Any

import pytest

from app.events.books import TOPIC, BookUpdated, checksum
from app.events.registry import FAMILIES
from app.exchange import Cancel, MatchingEngine, OrderType, Place, Side
from app.instruments import INSTRUMENTS
from app.kit.bus.memory import MemoryBus
from app.kit.problems import Problem
from app.matching.books import Books
from app.matching.depth import BookPublisher, difference
from app.matching.journal import unpack
from app.matching.repository import JournalRepository
from app.matching.service import Engine
from app.matching.settings import MatchingSettings
from tests.app.matching.books import Reader, crc32, readers
from tests.app.matching.fate import Fate, bury, mortal
from tests.app.matching.machine import (
    PRICE,
    SECONDS,
    SYMBOL,
    Machine,
    StrikingBus,
    command,
    told,
    until_leading,
)
from tests.app.matching.test_recovery import pure, random_commands

OTHER = "ETH-USD"


@pytest.fixture
def quick(machine: Machine) -> Machine:
    machine.settings = MatchingSettings.load(book_seconds=0.05)
    return machine


async def updates(machine: Machine) -> list[BookUpdated]:
    found: list[BookUpdated] = await machine.payloads(TOPIC)
    return found


async def until_told(machine: Machine, engine: Engine, *symbols: str) -> dict[str, Reader]:
    """What readers of the whole topic have, as soon as it is the engine's own book of each symbol."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = readers(await updates(machine))
            if all(symbol in found and same(found[symbol], engine, symbol) for symbol in symbols):
                return found
            await asyncio.sleep(0.01)


def same(reader: Reader, engine: Engine, symbol: str) -> bool:
    depth = engine.depth(symbol, 100)
    bids = [(level.price, level.quantity) for level in depth.bids]
    asks = [(level.price, level.quantity) for level in depth.asks]
    epoch_is_new = reader.epoch == str(engine.token)
    return epoch_is_new and (reader.best_bids(), reader.best_asks()) == (bids, asks)


async def committed_states(machine: Machine) -> dict[tuple[str, int], tuple[Any, Any]]:
    """The best levels of a book after each group that is in the journal, by symbol and sequence."""
    _, _, accounts = await pure(machine)
    books = Books(INSTRUMENTS, _NoRisk())
    found = {}
    async for batch in JournalRepository(machine.database).read(0):
        for one in books.apply(batch.batch, batch.at, unpack(batch.records), accounts):
            book = books.engines[one.output.symbol].book
            found[one.output.symbol, book.sequence] = book.bids.depth(100), book.asks.depth(100)
    return found


async def test_a_book_is_told_whole_and_then_by_its_changes(quick: Machine) -> None:
    async with quick.leading() as engine:
        await until_told(quick, engine, *INSTRUMENTS)
        assert {(update.kind, update.seq) for update in await updates(quick)} == {("snapshot", 1)}
        (sold,) = await told(engine, quick.place("anna", "sell", 10, PRICE + 2))
        await until_told(quick, engine, SYMBOL)
        await told(engine, quick.place("ben", "buy", 4, PRICE + 2), quick.place("ben", "buy", 7, PRICE))
        await until_told(quick, engine, SYMBOL)
        order = sold.orders[0].order_id
        await told(engine, command({"kind": "cancel", "owner": "anna", "symbol": SYMBOL, "order_id": order}))
        found = await until_told(quick, engine, SYMBOL)
        assert (found[SYMBOL].best_bids(), found[SYMBOL].best_asks()) == ([(PRICE, 7)], [])
    of_symbol = [update for update in await updates(quick) if update.symbol == SYMBOL]
    assert [update.kind for update in of_symbol] == ["snapshot", "delta", "delta", "delta"]
    assert [update.seq for update in of_symbol] == [1, 2, 3, 4]
    assert of_symbol[1].asks == ((PRICE + 2, 10),)
    assert (of_symbol[2].asks, of_symbol[2].bids) == (((PRICE + 2, 6),), ((PRICE, 7),))
    assert (of_symbol[3].asks, of_symbol[3].bids) == (((PRICE + 2, 0),), ())


async def test_what_leaves_the_books_as_they_are_is_not_told(quick: Machine) -> None:
    async with quick.leading() as engine:
        await until_told(quick, engine, *INSTRUMENTS)
        stop = quick.place("anna", "sell", 1, 0, order_type="stop", stop_price=PRICE - 100)
        await told(engine, stop, quick.place("ben", "buy", 2, PRICE, symbol=OTHER))
        await until_told(quick, engine, OTHER)
        await told(engine, quick.place("ben", "buy", 2, PRICE - 1, symbol=OTHER))
        await until_told(quick, engine, OTHER)
        later = [update for update in await updates(quick) if update.seq > 1]
        assert [(update.symbol, update.kind) for update in later] == [(OTHER, "delta")] * 2


async def test_halts_auctions_and_mass_cancels_are_changes_like_others(quick: Machine) -> None:
    async with quick.leading() as engine:
        await told(engine, command({"kind": "set_phase", "symbol": SYMBOL, "phase": "auction"}))
        await told(
            engine,
            quick.place("anna", "sell", 5, PRICE),
            quick.place("ben", "buy", 3, PRICE + 1),
            quick.place("cara", "sell", 8, PRICE + 9),
        )
        found = await until_told(quick, engine, SYMBOL)
        assert found[SYMBOL].best_bids()[0][0] > found[SYMBOL].best_asks()[0][0]
        await told(engine, command({"kind": "set_phase", "symbol": SYMBOL, "phase": "continuous"}))
        found = await until_told(quick, engine, SYMBOL)
        assert (found[SYMBOL].best_bids(), found[SYMBOL].best_asks()) == ([], [(PRICE, 2), (PRICE + 9, 8)])
        await told(engine, command({"kind": "set_phase", "symbol": SYMBOL, "phase": "halted"}))
        await told(engine, command({"kind": "set_phase", "symbol": SYMBOL, "phase": "continuous"}))
        await told(engine, command({"kind": "cancel_all", "owner": "", "symbol": SYMBOL}))
        found = await until_told(quick, engine, SYMBOL)
        assert (found[SYMBOL].bids, found[SYMBOL].asks) == ({}, {})


async def test_random_commands_over_changing_leaders(quick: Machine) -> None:
    """What is told is always a committed state, and in the end the leader's own, over restarts."""
    rng = random.Random(11)
    epochs = []
    for round_ in range(4):
        async with quick.leading() as engine:
            epochs.append(engine.token)
            for _ in range(6):
                await engine.submit(random_commands(quick, rng, 25, 100 * round_ + 50))
                quick.clock.advance(rng.random())
            found = await until_told(quick, engine, SYMBOL, OTHER)
            published = {book.symbol: book for book in engine.books().books}
            for symbol in (SYMBOL, OTHER):
                copy = Reader()
                copy.take(published[symbol])
                assert (copy.bids, copy.asks) == (found[symbol].bids, found[symbol].asks)
                assert (copy.epoch, copy.seq) == (found[symbol].epoch, found[symbol].seq)
    states = await committed_states(quick)
    copies: dict[str, Reader] = {}
    for update in await updates(quick):
        copy = copies.setdefault(update.symbol, Reader())
        copy.take(update)
        if update.sequence:
            assert states[update.symbol, update.sequence] == (copy.best_bids(), copy.best_asks())
    assert epochs == sorted(set(epochs))
    first_of_epoch = {}
    for update in await updates(quick):
        first_of_epoch.setdefault((update.symbol, update.epoch), update)
    assert {(update.kind, update.seq) for update in first_of_epoch.values()} == {("snapshot", 1)}
    assert {int(epoch) for symbol, epoch in first_of_epoch if symbol == SYMBOL} == set(epochs)


async def test_what_a_killed_leader_did_not_tell_its_successor_tells(quick: Machine) -> None:
    """Also that a book is empty by now, which nobody would find out otherwise."""
    quick.settings = MatchingSettings.load(book_seconds=10)
    engine = mortal(quick, Fate(10**9))
    task = asyncio.create_task(engine.run(asyncio.Event()))
    await until_leading(engine, task)
    async with asyncio.timeout(SECONDS):
        while len(await updates(quick)) < len(INSTRUMENTS):
            await asyncio.sleep(0.01)
    await told(engine, quick.place("anna", "sell", 10), quick.place("ben", "buy", 10, PRICE, symbol=OTHER))
    assert readers(await updates(quick))[SYMBOL].asks == {}
    await bury(quick, task)
    async with quick.leading() as successor:
        found = await until_told(quick, successor, *INSTRUMENTS)
        assert found[SYMBOL].asks == {PRICE: 10}
        await told(successor, command({"kind": "cancel_all", "owner": "", "symbol": None}))
    async with quick.leading() as last:
        found = await until_told(quick, last, *INSTRUMENTS)
        assert (found[SYMBOL].asks, found[OTHER].bids) == ({}, {})


async def test_an_outage_of_the_bus_is_made_up_for_by_a_snapshot(quick: Machine) -> None:
    assert isinstance(quick.bus, StrikingBus)
    async with quick.leading() as engine:
        await until_told(quick, engine, *INSTRUMENTS)
        quick.bus.away = True
        (result,) = await told(engine, quick.place("anna", "sell", 10))
        assert result.code == "ok"
        async with asyncio.timeout(SECONDS):
            while {book.symbol: book.seq for book in engine.books().books}[SYMBOL] < 3:
                await asyncio.sleep(0.01)
        await told(engine, quick.place("ben", "buy", 4, PRICE + 1))
        quick.bus.away = False
        found = await until_told(quick, engine, SYMBOL)
        assert found[SYMBOL].asks == {PRICE: 6}
        await told(engine, quick.place("ben", "buy", 1, PRICE - 1))
        await until_told(quick, engine, SYMBOL)
    of_symbol = [update for update in await updates(quick) if update.symbol == SYMBOL]
    assert [update.kind for update in of_symbol] == ["snapshot", "snapshot", "delta"]
    assert of_symbol[1].seq > 2
    others = [update for update in await updates(quick) if update.symbol != SYMBOL]
    assert len(others) == len(INSTRUMENTS) - 1


async def test_a_bus_without_the_topic_does_not_end_the_leader(quick: Machine) -> None:
    """As while a new version starts before its topics are made."""
    bus = StrikingBus()
    await bus.ensure([family.topic for name, family in FAMILIES.items() if name != TOPIC])
    quick.bus = bus
    async with quick.leading() as engine:
        await told(engine, quick.place("anna", "sell", 10))
        async with asyncio.timeout(SECONDS):
            while not await quick.outputs():
                await asyncio.sleep(0.01)
        await bus.ensure([FAMILIES[TOPIC].topic])
        assert (await until_told(quick, engine, SYMBOL))[SYMBOL].asks == {PRICE: 10}


async def test_only_the_leader_tells_its_books(quick: Machine) -> None:
    async with quick.leading():
        with pytest.raises(Problem) as refused:
            quick.engine().books()
    assert (refused.value.status, refused.value.code) == (421, "not-leader")


async def test_the_window_of_a_deep_book() -> None:
    """Levels enter and leave the best 100 at both ends; whatever is behind them is not told."""
    rng = random.Random(5)
    books = Books([SYMBOL], _NoRisk())
    bus = MemoryBus()
    await bus.ensure([FAMILIES[TOPIC].topic])
    publisher = BookPublisher(bus, 7, books, 0.05, lambda: 1_000)
    engine = books.engines[SYMBOL]
    reader, taken, open_orders = Reader(), 0, []
    for turn in range(300):
        for _ in range(rng.randint(0, 40) if turn else 400):
            change(engine, rng, open_orders)
        await publisher.turn()
        messages = await Machine(None, bus).payloads(TOPIC)  # type: ignore[arg-type]
        for update in messages[taken:]:
            reader.take(update)
        taken = len(messages)
        assert reader.best_bids() == engine.book.bids.depth(100)
        assert reader.best_asks() == engine.book.asks.depth(100)
    assert len(engine.book.bids.keys) > 100
    assert taken > 100


def change(engine: MatchingEngine, rng: random.Random, open_orders: list[int]) -> None:
    if open_orders and rng.random() < 0.45:
        gone = open_orders.pop(rng.randrange(len(open_orders)))
        engine.apply(Cancel(time=1, order_id=gone, account=1))
        return
    order_id = engine.book.entries + engine.book.sequence + 1
    side = rng.choice((Side.BUY, Side.SELL))
    away = rng.randint(-3, 160)
    engine.apply(
        Place(
            time=1,
            order_id=order_id,
            account=1 + (side is Side.SELL),
            side=side,
            order_type=OrderType.LIMIT,
            quantity=rng.randint(1, 9),
            price=10_000 - away if side is Side.BUY else 10_000 + away,
        )
    )
    open_orders.append(order_id)


def test_the_checksum_is_that_of_the_documented_rule() -> None:
    # The standard check value of CRC-32.
    assert crc32(b"123456789") == 0xCBF43926
    assert checksum([], []) == 0
    bids = [(100 - n, n + 1) for n in range(15)]
    asks = [(101 + n, 20 + n) for n in range(15)]
    assert checksum(bids[:1], asks[:1]) == crc32(b"101201001")
    # The example in docs/depth.md.
    assert checksum([(10_000, 125)], [(10_002, 50), (10_003, 200)]) == 1118835534
    written = "".join(f"{p}{q}" for p, q in asks[:10]) + "".join(f"{p}{q}" for p, q in bids[:10])
    assert checksum(bids, asks) == crc32(written.encode()) == checksum(bids[:10], asks[:10])


def test_a_difference_names_only_what_is_other() -> None:
    before = ((10, 1), (9, 2), (8, 3))
    assert difference(before, before) == ()
    assert set(difference(before, ((11, 5), (10, 1), (9, 4)))) == {(11, 5), (9, 4), (8, 0)}


class _NoRisk:
    def apply(self, symbol: str, change: object, at: int) -> None:
        pass

    def forget(self, order_id: int) -> None:
        pass

    def dump(self) -> bytes:
        return b""
