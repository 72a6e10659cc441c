"""Nothing that was acknowledged is lost, nothing is told differently, whenever a process is killed."""

import asyncio
import random
from collections.abc import Iterable

import pytest

from app.events.matching import Change, MatchingOutput
from app.instruments import INSTRUMENTS
from app.kit.lease import LeaseLost
from app.matching.accounts import Accounts
from app.matching.books import Books
from app.matching.journal import unpack
from app.matching.replay import Replay
from app.matching.repository import AccountRepository, Batch, JournalRepository
from app.matching.service import Engine
from app.matching_client.commands import Command, Place, Result
from app.orders.repository import OrderRepository
from app.risk.limits import Limits
from app.risk.pretrade import PreTradeRisk
from tests.app.matching.fate import Fate, bury, mortal
from tests.app.matching.machine import PRICE, SECONDS, SYMBOL, Machine, command, once, told, until_leading

OWNERS = ("anna", "ben", "cara")
SYMBOLS = (SYMBOL, "ETH-USD")


def random_commands(machine: Machine, rng: random.Random, count: int, newest: int) -> list[Command]:
    """Commands that meet, miss, expire and fail; `newest` is about the largest order id."""
    made: list[Command] = []
    for _ in range(count):
        owner, symbol = rng.choice(OWNERS), rng.choice(SYMBOLS)
        price = PRICE if symbol == SYMBOL else 300_000
        of_one = {"owner": owner, "symbol": symbol, "order_id": rng.randint(1, newest + 5)}
        kind = rng.random()
        if kind < 0.6:
            made.append(_order(machine, rng, owner, symbol, price))
        elif kind < 0.75:
            made.append(command({"kind": "cancel", **of_one}))
        elif kind < 0.9:
            changed = {"quantity": rng.randint(1, 30), "price": price + rng.randint(-9, 9)}
            made.append(command({"kind": "replace", **of_one, **changed}))
        elif kind < 0.94:
            legs = [_order(machine, rng, owner, symbol, price).model_dump() for _ in range(2)]
            shared = {
                "side": "sell",
                "quantity": 5,
                "time_in_force": "gtc",
                "expires_at": 0,
                "post_only": False,
            }
            limit = {"order_type": "limit", "price": price + 50, "stop_price": 0}
            stop = {"order_type": "stop", "price": 0, "stop_price": price - rng.randint(1, 20)}
            first, second = legs[0] | shared | limit, legs[1] | shared | stop
            made.append(command({"kind": "oco", "first": first, "second": second}))
        elif kind < 0.97:
            made.append(command({"kind": "cancel_all", "owner": owner, "symbol": None}))
        else:
            made.append(command({"kind": "cancel_after", "owner": owner, "seconds": rng.randint(0, 3)}))
    return made


def _order(machine: Machine, rng: random.Random, owner: str, symbol: str, price: int) -> Place:
    side = rng.choice(("buy", "sell"))
    more: dict[str, object] = {"symbol": symbol}
    match rng.randint(0, 9):
        case 0:
            more |= {"order_type": "market", "price": 0, "time_in_force": "ioc"}
        case 1:
            more |= {"order_type": "stop", "price": 0, "stop_price": price + rng.randint(-9, 9)}
        case 2:
            more |= {"time_in_force": "gtd", "expires_at": machine.clock.now + rng.randint(1, 4000)}
        case 3:
            more |= {"post_only": True}
    priced = {"price": price + rng.randint(-9, 9), **more}
    return machine.place(owner, side, rng.randint(1, 30), **priced)  # type: ignore[arg-type]


async def pure(machine: Machine) -> tuple[Books, list[MatchingOutput], Accounts]:
    """What an engine that was never interrupted makes of the journal."""
    async with machine.database.transaction(read_only=True) as session:
        accounts = Accounts(await AccountRepository(machine.database).all(session))
    books = Books(INSTRUMENTS, PreTradeRisk(Limits()))
    outputs: list[MatchingOutput] = []
    async for batch in JournalRepository(machine.database).read(0):
        applied = books.apply(batch.batch, batch.at, unpack(batch.records), accounts)
        outputs += [one.output for one in applied]
    return books, outputs, accounts


def of_symbol(outputs: Iterable[MatchingOutput], symbol: str) -> list[Change]:
    return [change for output in outputs if output.symbol == symbol for change in output.changes]


async def assert_consistent(machine: Machine, engine: Engine) -> None:
    """The live state is that of the journal, and so is what was published, once nothing is under way."""
    async with asyncio.timeout(SECONDS):
        while True:
            books, outputs, _ = await pure(machine)
            published = [once(await machine.outputs(symbol)) for symbol in SYMBOLS]
            state = engine.state()
            told = [of_symbol(outputs, symbol) for symbol in SYMBOLS]
            if published == told and state[SYMBOL]["batch"] == books.batch:
                break
            await asyncio.sleep(0.01)
    assert {symbol: state[symbol]["state_hash"] for symbol in SYMBOLS} == {
        symbol: books.state_hash(symbol) for symbol in SYMBOLS
    }


async def carry(engine: Engine, commands: list[Command], answers: dict[str, Result]) -> list[Command]:
    """Send commands one by one side by side; keeps the answers to orders, returns what has none."""

    async def one(wanted: Command) -> Command | None:
        try:
            (result,) = await engine.submit([wanted])
        except Exception:
            return wanted
        if result is None:
            return wanted
        if isinstance(wanted, Place):
            before = answers.setdefault(wanted.client_order_id, result)
            assert before.orders == result.orders
        return None

    return [left for left in await asyncio.gather(*map(one, commands)) if left is not None]


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_at_any_step(machine: Machine, seed: int) -> None:
    rng = random.Random(seed)
    machine.marks.prices["ETH-USD"] = 300_000
    await machine.fund(*OWNERS, assets=("ETH",))
    answers: dict[str, Result] = {}
    sent: list[Place] = []
    for _ in range(10):
        fate = Fate(fatal=rng.randint(1, 90))
        engine, stopping = mortal(machine, fate), asyncio.Event()
        task = asyncio.create_task(engine.run(stopping))
        died = asyncio.create_task(fate.died.wait())
        leading = asyncio.create_task(until_leading(engine, task))
        await asyncio.wait((died, leading), return_when=asyncio.FIRST_COMPLETED)
        leading.cancel()
        left: list[Command] = []
        async with asyncio.timeout(SECONDS):
            while not fate.died.is_set():
                machine.clock.advance(rng.random())
                wanted = left + random_commands(machine, rng, rng.randint(1, 12), len(answers))
                sent += [one for one in wanted if isinstance(one, Place)]
                work = asyncio.create_task(carry(engine, wanted, answers))
                await asyncio.wait((work, died), return_when=asyncio.FIRST_COMPLETED)
                left = work.result() if work.done() else []
                if not work.done():
                    await bury(machine, task)
                    await work
        await bury(machine, task)
        died.cancel()
    async with machine.leading():
        pass
    await assert_published(machine)
    _, outputs, _ = await pure(machine)
    async with machine.database.transaction() as session:
        await OrderRepository(machine.database).apply(session, outputs)
    async with machine.leading() as engine:
        assert await carry(engine, list(dict.fromkeys(sent)), answers) == []
    async with machine.leading() as engine:
        await assert_consistent(machine, engine)
    async with machine.database.transaction(read_only=True) as session:
        last = await OrderRepository(machine.database).last_id(session)
    ids = [order.order_id for answer in answers.values() for order in answer.orders]
    assert len(set(ids)) == len(ids)
    assert max(ids) <= last


async def assert_published(machine: Machine) -> None:
    _, outputs, _ = await pure(machine)
    for symbol in SYMBOLS:
        assert once(await machine.outputs(symbol)) == of_symbol(outputs, symbol)


async def test_a_crash_between_commit_and_answer_keeps_the_order(machine: Machine) -> None:
    for turn in range(60):
        wanted = machine.place("anna", "sell", 10)
        fate = Fate(10**9)
        engine = mortal(machine, fate)
        task = asyncio.create_task(engine.run(asyncio.Event()))
        await until_leading(engine, task)
        batches = len(await machine.batches())
        died = asyncio.create_task(fate.died.wait())
        # The third step of the order is behind its commit; what the leader does beside it may come between.
        fate.soon(3 + turn % 6)
        asked = asyncio.create_task(engine.submit([wanted]))
        await asyncio.wait((died, asked), return_when=asyncio.FIRST_COMPLETED)
        committed = len(await machine.batches()) > batches
        was_answered = asked.done()
        fate.died.set()  # where it was answered first, it dies now
        died.cancel()
        await bury(machine, task)
        await asyncio.gather(asked, return_exceptions=True)
        if committed and not was_answered:
            async with machine.leading() as survivor:
                (level,) = survivor.depth(SYMBOL, 5).asks
                assert level.quantity % 10 == 0
                (again,) = await told(survivor, wanted)
                assert (again.code, again.repeated, again.orders[0].status) == ("ok", True, "open")
            return
    pytest.fail("no kill came between commit and answer")


async def test_snapshot_and_journal_give_the_state_of_the_journal_alone(machine: Machine) -> None:
    rng = random.Random(5)
    machine.marks.prices["ETH-USD"] = 300_000
    await machine.fund(*OWNERS, assets=("ETH",))
    for _ in range(3):
        async with machine.leading() as engine:
            for _ in range(10):
                machine.clock.advance(rng.random())
                await engine.submit(random_commands(machine, rng, 8, 100))
    async with machine.leading() as engine:
        await assert_consistent(machine, engine)


async def test_a_replay_gives_the_state_of_risk_too(machine: Machine) -> None:
    rng = random.Random(6)
    machine.marks.prices["ETH-USD"] = 300_000
    await machine.fund(*OWNERS, assets=("ETH",))
    async with machine.leading() as engine:
        for _ in range(30):
            machine.clock.advance(rng.random())
            await engine.submit(random_commands(machine, rng, 8, 100))
    books, _, accounts = await pure(machine)
    quick = Books(INSTRUMENTS, PreTradeRisk(Limits()))
    replay = Replay(quick, accounts, Limits())
    async for batch in JournalRepository(machine.database).read(0):
        replay.apply(batch.batch, batch.at, batch.records)
    assert replay.finish().dump() == books.risk.dump()
    assert b"".join(quick.dump()) == b"".join(books.dump())
    assert any(engine.book.trades for engine in books.engines.values())


async def test_a_deposed_leader_cannot_write(machine: Machine) -> None:
    async with machine.leading() as old:
        await told(old, machine.place("anna", "sell", 1))
        token = old.token
    async with machine.leading() as new:
        assert new.token > token
        store = machine.parts().store
        with pytest.raises(LeaseLost):
            async with machine.database.transaction() as session:
                await store.lease.check(session, token)
        with pytest.raises(LeaseLost):
            async with machine.database.transaction() as session:
                await store.journal.append(session, Batch(1, token, 1, 1, b""))
        await told(new, machine.place("anna", "sell", 1))
    assert [token_ for _, token_ in await machine.batches()] == [token, token + 1]
