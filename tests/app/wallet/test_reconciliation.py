"""The reconciliation finds every kind of damage and repairs none."""

import asyncio

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from app.kit.database import Database
from app.kit.lease import Lease
from app.wallet.ledger.accounts import available
from app.wallet.ledger.audit import Difference
from app.wallet.ledger.reconciliation import Reconciliation, Report
from app.wallet.ledger.service import Ledger
from app.wallet.ledger.transfers import Transfer
from tests.app.wallet.books import apply, open_books

SECONDS = 30.0
ANNA, BEN = available("anna", "USD"), available("ben", "USD")
DAMAGE = {
    "a changed balance": (
        "UPDATE ledger_accounts SET balance = balance + 5 WHERE owner = 'anna' AND kind = 'available'",
        {Difference("balance", "anna:USD:available", 65, 60)},
        5,
    ),
    "a lost posting": (
        "DELETE FROM ledger_postings WHERE transfer_id = 'move'",
        {
            Difference("balance", "anna:USD:available", 60, 70),
            Difference("balance", "ben:USD:available", 10, 0),
            Difference("transfer", "move", 1, 0),
        },
        0,
    ),
    "a changed posting": (
        "UPDATE ledger_postings SET amount = 11 WHERE transfer_id = 'move'",
        {
            Difference("balance", "anna:USD:available", 60, 59),
            Difference("balance", "ben:USD:available", 10, 11),
        },
        0,
    ),
    "a changed hold": (
        "UPDATE ledger_holds SET posted = 1",
        {Difference("held", "anna:USD:held", 30, 29)},
        0,
    ),
    "a posting to no account": (
        "UPDATE ledger_postings SET target_id = 99999 WHERE transfer_id = 'move'",
        {Difference("balance", "ben:USD:available", 10, 0), Difference("stray posting", "move", 1, 0)},
        0,
    ),
    "a lost transfer": (
        "DELETE FROM ledger_transfers WHERE id = 'move'",
        {Difference("stray posting", "move", 1, 0)},
        0,
    ),
    "a hold of no account": (
        "UPDATE ledger_holds SET source_id = 99999",
        {Difference("held", "anna:USD:held", 30, 0), Difference("stray hold", "hold", 1, 0)},
        0,
    ),
    "a lost hold": ("DELETE FROM ledger_holds", {Difference("held", "anna:USD:held", 30, 0)}, 0),
    "a posting of a transfer that failed": (
        "UPDATE ledger_transfers SET code = 'insufficient_funds' WHERE id = 'move'",
        {Difference("transfer", "move", 0, 1)},
        0,
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
async def test_damage_is_found_and_left(database: Database, kind: str) -> None:
    statement, expected, sum_ = DAMAGE[kind]
    ledger, reconciliation = Ledger(database), Reconciliation(database)
    await open_books(database, ledger, {"anna": 100, "ben": 0})
    await apply(database, ledger, Transfer.move("move", ANNA, BEN, 10), Transfer.hold("hold", ANNA, 30))
    assert (await reconciliation.check()).is_clean
    assert REGISTRY.get_sample_value("ledger_imbalance", {"asset": "USD"}) == 0
    async with database.transaction() as session:
        await session.execute(text(statement))
    for _ in range(2):
        report = await reconciliation.check()
        assert not report.is_clean
        assert set(report.differences) == expected
        assert report.imbalances == {"USD": sum_}
    assert REGISTRY.get_sample_value("ledger_imbalance", {"asset": "USD"}) == sum_
    assert REGISTRY.get_sample_value("ledger_differences") == len(expected)


async def test_a_posting_between_two_assets_is_found(database: Database) -> None:
    ledger = Ledger(database)
    await open_books(database, ledger, {"anna": 100}, ("USD", "BTC"))
    bitcoin = "(SELECT id FROM ledger_accounts WHERE owner = 'anna' AND asset = 'BTC' AND kind = 'available')"
    async with database.transaction() as session:
        await session.execute(
            text(f"UPDATE ledger_postings SET target_id = {bitcoin} WHERE transfer_id = 'deposit:anna:USD'")
        )
    report = await Reconciliation(database).check()
    assert {(d.check, d.subject) for d in report.differences} == {
        ("asset", "deposit:anna:USD"),
        ("balance", "anna:USD:available"),
        ("balance", "anna:BTC:available"),
    }


async def test_one_process_at_a_time_reconciles(database: Database) -> None:
    ledger = Ledger(database)
    await open_books(database, ledger, {"anna": 100})
    first, second = Reconciliation(database, 100), Reconciliation(database, 0.02)
    checked = asyncio.Event()

    async def check() -> Report:
        checked.set()
        return Report({}, [])

    second.check = check  # type: ignore[method-assign]
    task = asyncio.create_task(first.run())
    async with asyncio.timeout(SECONDS):
        while await Lease(database, "ledger-reconciliation", "", 1).holder() is None:
            await asyncio.sleep(0.01)
    other = asyncio.create_task(second.run())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await checked.wait()
    task.cancel()
    await first._lease.release(1)
    async with asyncio.timeout(SECONDS):
        await checked.wait()
    other.cancel()
    await asyncio.gather(task, other, return_exceptions=True)
