"""Whatever happens in whatever order, the ledger is what the reference is, and no unit comes or goes."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from sqlalchemy import delete

from app.kit import schema
from app.kit.database import Database
from app.wallet.ledger.accounts import Account, AccountKind, available, loan, platform
from app.wallet.ledger.assets import LARGEST
from app.wallet.ledger.book import Hold, HoldState
from app.wallet.ledger.models import AccountRow, HoldRow, PostingRow, TransferRow
from app.wallet.ledger.reconciliation import Reconciliation
from app.wallet.ledger.service import Ledger
from app.wallet.ledger.transfers import Code, Kind, Result, Transfer
from infra.servers.backing import Postgresql
from tests.app.wallet.books import Clock
from tests.app.wallet.reference import Held, Reference

USERS, ASSETS = ("anna", "ben", "cleo"), ("USD", "BTC")
FREE = [available(user, asset) for user in USERS for asset in ASSETS]
OURS = [
    platform(kind, asset)
    for asset in ASSETS
    for kind in (AccountKind.CUSTODY, AccountKind.FEES, AccountKind.PENDING_WITHDRAWAL)
]
OURS += [loan(user, asset) for user in USERS for asset in ASSETS]
ACCOUNTS = [*FREE, *(account.held for account in FREE), *OURS]
UNKNOWN = available("nobody", "USD")

ids = st.integers(0, 25).map("t{}".format)
accounts = st.sampled_from([*FREE * 3, *OURS, UNKNOWN])
amounts = st.one_of(st.integers(1, 9), st.integers(10, 60), st.sampled_from([1000, LARGEST - 30, LARGEST]))


@st.composite
def transfers(draw: st.DrawFn) -> Transfer:
    id, linked = draw(ids), draw(st.integers(0, 3)) == 0
    match draw(st.sampled_from(Kind)):
        case Kind.MOVE:
            giver, taker = draw(accounts), draw(accounts)
            if giver == taker or giver.asset != taker.asset:
                giver, taker = platform(AccountKind.CUSTODY, taker.asset), available("ben", taker.asset)
            return Transfer.move(id, giver, taker, draw(amounts), linked=linked)
        case Kind.HOLD:
            source = draw(st.sampled_from([*FREE, UNKNOWN]))
            target = draw(accounts)
            return Transfer.hold(
                id,
                source,
                draw(amounts),
                target=target if target.asset == source.asset and draw(st.booleans()) else None,
                timeout=draw(st.none() | st.integers(1, 20)),
                linked=linked,
            )
        case Kind.POST:
            return Transfer.post(
                id,
                draw(ids),
                draw(st.none() | amounts),
                target=draw(st.none() | accounts),
                keep=draw(st.booleans()),
                linked=linked,
            )
        case Kind.GROW:
            return Transfer.grow(id, draw(ids), draw(amounts), linked=linked)
        case Kind.SHRINK:
            return Transfer.shrink(id, draw(ids), draw(amounts), linked=linked)
        case _:
            return Transfer.void(id, draw(ids), linked=linked)


@st.composite
def batches(draw: st.DrawFn) -> list[Transfer]:
    """Transfers whose chains end and have each id once."""
    found: list[Transfer] = []
    chain: set[str] = set()
    for transfer in draw(st.lists(transfers(), min_size=1, max_size=12)):
        if transfer.id in chain:
            found[-1] = replace(found[-1], linked=False)
            chain = set()
        chain = chain | {transfer.id} if transfer.linked else set()
        found.append(transfer)
    found[-1] = replace(found[-1], linked=False)
    return found


class LedgerMachine(RuleBasedStateMachine):
    """Batches, retries, time and expiry against both ledgers."""

    runner: asyncio.Runner
    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.ledger = Ledger(self.database, self.clock)
        self.reference = Reference(dict.fromkeys(ACCOUNTS, 0))
        self.batches: list[list[Transfer]] = []

    @initialize()
    def open_books(self) -> None:
        async def work() -> None:
            async with self.database.transaction() as session:
                for table in (HoldRow, PostingRow, TransferRow, AccountRow):
                    await session.execute(delete(table))
                await self.ledger.open(session, ACCOUNTS)

        self.runner.run(work())
        self.apply(
            [
                Transfer.move(f"d{n}", platform(AccountKind.CUSTODY, account.asset), account, 100)
                for n, account in enumerate(FREE)
            ]
        )

    def _apply(self, batch: list[Transfer]) -> list[Result]:
        async def work() -> list[Result]:
            async with self.database.transaction() as session:
                return await self.ledger.apply(session, batch)

        return self.runner.run(work())

    @rule(batch=batches())
    def apply(self, batch: list[Transfer]) -> None:
        assert self._apply(batch) == self.reference.apply(batch, self.clock())
        self.batches.append(batch)

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """The same batch again changes nothing, whatever happened in between."""
        batch = data.draw(st.sampled_from(self.batches))
        before = self._balances()
        results = self._apply(batch)
        assert Code.OK not in [result.code for result in results]
        assert results == self.reference.apply(batch, self.clock())
        assert self._balances() == before

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def expire(self) -> None:
        async def work() -> list[Hold]:
            async with self.database.transaction() as session:
                return await self.ledger.expire(session)

        assert {hold.id for hold in self.runner.run(work())} == self.reference.expire(self.clock())

    def _balances(self) -> dict[Account, int]:
        async def work() -> dict[Account, int]:
            found: dict[Account, int] = {}
            async with self.database.transaction(read_only=True) as session:
                for owner in {account.owner for account in ACCOUNTS}:
                    found |= await self.ledger.balances(session, owner)
            return found

        return self.runner.run(work())

    @invariant()
    def balances_are_those_of_the_reference(self) -> None:
        balances = self._balances()
        if not balances:
            return
        assert balances == self.reference.state.balances
        for asset in ASSETS:
            assert sum(b for account, b in balances.items() if account.asset == asset) == 0
        loans = {account: b for account, b in balances.items() if account.kind is AccountKind.LOAN}
        assert all(b <= 0 for b in loans.values())
        assert all(b >= 0 for account, b in balances.items() if account.kind.is_user and account not in loans)

    @invariant()
    def holds_are_posted_voided_expired_or_pending(self) -> None:
        async def work() -> dict[str, Hold]:
            async with self.database.transaction(read_only=True) as session:
                return await self.ledger.holds(session, self.reference.state.holds)

        found = self.runner.run(work())
        assert {id: parts(hold) for id, hold in found.items()} == {
            id: reference_parts(hold) for id, hold in self.reference.state.holds.items()
        }
        for hold in found.values():
            assert hold.amount == sum(parts(hold))

    def teardown(self) -> None:
        assert self.runner.run(Reconciliation(self.database).check()).is_clean


def parts(hold: Hold) -> tuple[int, int, int, int]:
    """Posted, given back, expired, pending."""
    expired = hold.released if hold.state is HoldState.EXPIRED else 0
    return hold.posted, hold.released - expired, expired, hold.left


def reference_parts(hold: Held) -> tuple[int, int, int, int]:
    return hold.posted, hold.voided, hold.expired, hold.pending


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


def check(runner: asyncio.Runner, url: str, examples: int, steps: int) -> None:
    database = Database(url)
    runner.run(schema.to(database))
    machine = type("Machine", (LedgerMachine,), {"runner": runner, "database": database})
    try:
        run_machine(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        runner.run(database.close())


def test_the_ledger_is_the_reference_on_sqlite(runner: asyncio.Runner, tmp_path: Path) -> None:
    check(runner, f"sqlite+aiosqlite:///{tmp_path}/machine.db", examples=30, steps=25)


def test_the_ledger_is_the_reference_on_postgresql(runner: asyncio.Runner, postgresql: Postgresql) -> None:
    check(runner, runner.run(postgresql.new_database()), examples=20, steps=25)
