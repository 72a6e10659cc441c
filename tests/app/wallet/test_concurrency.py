"""Many writers at once on a real PostgreSQL: no deadlock, no unit lost; what fails leaves nothing."""

import asyncio
import random
from collections import Counter

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from app.kit.database import Database
from app.kit.errors import Unavailable
from app.wallet.ledger.accounts import available
from app.wallet.ledger.models import HoldRow, PostingRow, TransferRow
from app.wallet.ledger.reconciliation import Reconciliation
from app.wallet.ledger.repository import Contended
from app.wallet.ledger.service import Ledger
from app.wallet.ledger.transfers import Code, Result, Transfer
from tests.app.wallet.books import CUSTODY, apply, balance, open_books, total

USERS = [f"user-{number}" for number in range(12)]
TASKS, ROUNDS, SIZE = 12, 12, 20


def batch(random_: random.Random, name: str) -> list[Transfer]:
    """Moves, holds and posts among few users in no particular order, some of them in chains."""
    found: list[Transfer] = []
    for number in range(SIZE):
        source, target = (available(user, "USD") for user in random_.sample(USERS, 2))
        id, amount = f"{name}:{number}", random_.randint(1, 40)
        if random_.random() < 0.5:
            found.append(Transfer.move(id, source, target, amount, linked=random_.random() < 0.3))
        else:
            found.append(Transfer.hold(f"{id}:h", source, amount, linked=True))
            found.append(Transfer.post(id, f"{id}:h", (amount + 1) // 2, target=target))
    return [*found, Transfer.move(f"{name}:end", available(USERS[0], "USD"), available(USERS[1], "USD"), 1)]


async def test_many_writers_neither_deadlock_nor_lose_a_unit(postgresql_database: Database) -> None:
    database = postgresql_database
    ledger = Ledger(database)
    await open_books(database, ledger, dict.fromkeys(USERS, 200))

    async def write(task: int) -> Counter[Code]:
        random_ = random.Random(task)
        codes: Counter[Code] = Counter()
        for round_ in range(ROUNDS):
            codes.update(r.code for r in await apply(database, ledger, *batch(random_, f"{task}:{round_}")))
        return codes

    async def look() -> None:
        for _ in range(5):
            assert (await Reconciliation(database).check()).is_clean

    *counts, _ = await asyncio.gather(*(write(task) for task in range(TASKS)), look())
    codes = sum((found for found in counts if found), Counter[Code]())
    assert set(codes) <= {Code.OK, Code.INSUFFICIENT_FUNDS, Code.LINKED_FAILED}
    assert codes[Code.OK] > codes[Code.INSUFFICIENT_FUNDS] > 0
    assert await total(database, ledger, USERS) == 0
    assert (await Reconciliation(database).check()).is_clean
    async with database.transaction(read_only=True) as session:
        deadlocks = await session.scalar(
            text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        )
    assert deadlocks == 0


async def test_funds_are_spent_once(postgresql_database: Database) -> None:
    database = postgresql_database
    ledger = Ledger(database)
    await open_books(database, ledger, {"anna": 100, "ben": 0})
    source, target = available("anna", "USD"), available("ben", "USD")
    results = await asyncio.gather(
        *(apply(database, ledger, Transfer.move(f"m{n}", source, target, 30)) for n in range(16))
    )
    codes = Counter(result.code for [result] in results)
    assert codes == {Code.OK: 3, Code.INSUFFICIENT_FUNDS: 13}
    assert await balance(database, ledger, source) == 10


async def test_one_transfer_sent_many_times_happens_once(postgresql_database: Database) -> None:
    database = postgresql_database
    ledger = Ledger(database)
    await open_books(database, ledger, {"anna": 100, "ben": 0})
    move = Transfer.move("m", available("anna", "USD"), available("ben", "USD"), 30)
    results = await asyncio.gather(*(apply(database, ledger, move) for _ in range(16)))
    assert Counter(result.code for [result] in results) == {Code.OK: 1, Code.EXISTS: 15}
    assert await balance(database, ledger, available("ben", "USD")) == 30


async def test_a_hold_is_posted_once(postgresql_database: Database) -> None:
    """The other hold of the account has funds enough; they must not be taken."""
    database = postgresql_database
    ledger = Ledger(database)
    await open_books(database, ledger, {"anna": 1000, "ben": 0})
    source, target = available("anna", "USD"), available("ben", "USD")
    await apply(database, ledger, Transfer.hold("h", source, 100), Transfer.hold("other", source, 900))
    posts = [Transfer.post(f"p{n}", "h", 60, target=target, keep=True) for n in range(8)]
    results = await asyncio.gather(*(apply(database, ledger, post) for post in posts))
    codes = Counter(result.code for [result] in results)
    assert codes == {Code.OK: 1, Code.AMOUNT_EXCEEDS_PENDING: 7}
    assert (await Reconciliation(database).check()).is_clean


async def test_one_id_for_two_contents_at_once_is_tried_again(postgresql_database: Database) -> None:
    """The accounts have nothing in common, so only the id itself can keep the two apart."""
    database = postgresql_database
    ledger = Ledger(database)
    await open_books(database, ledger, dict.fromkeys(("a", "b", "c", "d"), 100))
    first = Transfer.move("same", available("a", "USD"), available("b", "USD"), 1)
    second = Transfer.move("same", available("c", "USD"), available("d", "USD"), 1)
    waiting: asyncio.Task[list[Result]] | None = None
    async with database.transaction() as session:
        await ledger.apply(session, [first])
        waiting = asyncio.create_task(apply(database, ledger, second))
        await until_someone_waits(database)
    with pytest.raises(Contended):
        await waiting
    assert [result.code for result in await apply(database, ledger, second)] == [Code.CONFLICT]
    assert await balance(database, ledger, available("d", "USD")) == 100


async def until_someone_waits(database: Database) -> None:
    """Return when a session waits for another one's lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(30):
        while True:
            async with database.transaction(read_only=True) as session:
                if await session.scalar(waiting):
                    return


async def test_what_is_rolled_back_has_not_happened(database: Database) -> None:
    ledger = Ledger(database)
    await open_books(database, ledger, {"anna": 100, "ben": 0})
    source, target = available("anna", "USD"), available("ben", "USD")
    transfers = [Transfer.hold("h", source, 40, target=target), Transfer.post("p", "h", 10, keep=True)]
    tables = (TransferRow, PostingRow, HoldRow)

    async def rows() -> list[int | None]:
        async with database.transaction(read_only=True) as session:
            return [await session.scalar(select(func.count()).select_from(table)) for table in tables]

    async def fail_after_writing() -> None:
        async with database.transaction() as session:
            assert all(result.done for result in await ledger.apply(session, transfers))
            await session.flush()
            raise RuntimeError("the process ends here")

    before = await rows()
    with pytest.raises(RuntimeError, match="ends here"):
        await fail_after_writing()
    assert await rows() == before
    assert await balance(database, ledger, source) == 100
    assert await balance(database, ledger, source.held) == 0
    assert [result.code for result in await apply(database, ledger, *transfers)] == [Code.OK, Code.OK]


async def test_a_batch_that_breaks_between_two_statements_leaves_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it breaks: the statement of that number is the last one that is run."""
    ledger = Ledger(database)
    await open_books(database, ledger, {"anna": 100, "ben": 0})
    source, target = available("anna", "USD"), available("ben", "USD")
    transfers = [Transfer.hold("h", source, 40, target=target), Transfer.post("p", "h", 10, keep=True)]

    async def break_off(after: int) -> None:
        async with database.transaction() as session:
            run, count = session.execute, 0

            async def counted(*args: object, **options: object) -> object:
                nonlocal count
                count += 1
                if count > after:
                    raise ConnectionResetError
                return await run(*args, **options)  # type: ignore[call-overload]

            monkeypatch.setattr(session, "execute", counted)
            await ledger.apply(session, transfers)

    for statement in range(5 if database.is_postgresql else 8):
        with pytest.raises(Unavailable):
            await break_off(statement)
        assert (await Reconciliation(database).check()).is_clean
        assert await balance(database, ledger, source) == 100
    await break_off(8)
    assert [result.code for result in await apply(database, ledger, *transfers)] == [Code.EXISTS, Code.EXISTS]


async def test_the_database_itself_refuses_an_overdrawn_account(database: Database) -> None:
    ledger = Ledger(database)
    await open_books(database, ledger, {"anna": 100})

    async def tamper(kind: str, to: int) -> None:
        async with database.transaction() as session:
            await session.execute(
                text("UPDATE ledger_accounts SET balance = :to WHERE kind = :kind"), {"to": to, "kind": kind}
            )

    for kind, to in (("available", -1), ("held", -1), ("fees", -1), ("custody", 1)):
        with pytest.raises(IntegrityError):
            await tamper(kind, to)
    assert await balance(database, ledger, CUSTODY) == -100
