"""SQL of the reconciliation: each check finds what does not agree, with everything it was computed from."""

from typing import Any, NamedTuple

from sqlalchemy import and_, exists, func, literal, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.kit.database import Database
from app.wallet.ledger.accounts import AccountKind
from app.wallet.ledger.models import AccountRow, HoldRow, PostingRow, TransferRow
from app.wallet.ledger.transfers import Code

_MOST = 100
"""Differences that one check returns."""


class Difference(NamedTuple):
    """Two things that should be equal and are not."""

    check: str
    subject: str
    """Account or transfer."""
    stored: int
    computed: int


class AuditRepository:
    """Reads the whole ledger. Sums are NUMERIC on PostgreSQL; SQLite raises where 64 bits are too few."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take_snapshot(self, session: AsyncSession) -> None:
        """Let every later statement of the transaction see one moment; the first statement in it."""
        if self._database.is_postgresql:
            await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))

    async def imbalances(self, session: AsyncSession) -> dict[str, int]:
        """Asset → sum of all balances; has to be zero."""
        found = await session.execute(
            select(AccountRow.asset, _total(AccountRow.balance)).group_by(AccountRow.asset)
        )
        return {asset: int(sum_) for asset, sum_ in found}

    async def balances(self, session: AsyncSession) -> list[Difference]:
        """Accounts whose balance is not the sum of their postings."""
        legs = union_all(
            select(PostingRow.target_id.label("id"), PostingRow.amount.label("amount")),
            select(PostingRow.source_id, -PostingRow.amount),
        ).subquery()
        sums = select(legs.c.id, _total(legs.c.amount).label("total")).group_by(legs.c.id).subquery()
        computed = func.coalesce(sums.c.total, 0)
        found = await session.execute(
            select(_name(AccountRow), AccountRow.balance, computed)
            .outerjoin(sums, sums.c.id == AccountRow.id)
            .where(AccountRow.balance != computed)
            .order_by(AccountRow.id)
            .limit(_MOST)
        )
        return [Difference("balance", name, stored, int(sum_)) for name, stored, sum_ in found]

    async def held(self, session: AsyncSession) -> list[Difference]:
        """Accounts of held funds that do not have what is left of their holds."""
        free, held = aliased(AccountRow), aliased(AccountRow)
        left = HoldRow.amount - HoldRow.posted - HoldRow.released
        sums = select(HoldRow.source_id, _total(left).label("total")).group_by(HoldRow.source_id).subquery()
        computed = func.coalesce(sums.c.total, 0)
        same = and_(
            free.owner == held.owner, free.asset == held.asset, free.kind == AccountKind.AVAILABLE.value
        )
        found = await session.execute(
            select(_name(held), held.balance, computed)
            .outerjoin(free, same)
            .outerjoin(sums, sums.c.source_id == free.id)
            .where(held.kind == AccountKind.HELD.value, held.balance != computed)
            .order_by(held.id)
            .limit(_MOST)
        )
        return [Difference("held", name, stored, int(sum_)) for name, stored, sum_ in found]

    async def transfers(self, session: AsyncSession) -> list[Difference]:
        """Transfers that were done and have no posting, or failed and have one."""
        posted = exists().where(PostingRow.transfer_id == TransferRow.id)
        done = TransferRow.code == Code.OK.value
        found = await session.execute(
            select(TransferRow.id, TransferRow.code)
            .where(done != posted)
            .order_by(TransferRow.id)
            .limit(_MOST)
        )
        return [Difference("transfer", id, code == Code.OK, code != Code.OK) for id, code in found]

    async def strays(self, session: AsyncSession) -> list[Difference]:
        """Postings of no transfer, and postings and holds of accounts that are not there."""
        found: list[Difference] = []
        has_transfer = exists().where(TransferRow.id == PostingRow.transfer_id)
        for check, id, missing in (
            ("stray posting", PostingRow.transfer_id, ~has_transfer),
            ("stray posting", PostingRow.transfer_id, _lacks(PostingRow.source_id)),
            ("stray posting", PostingRow.transfer_id, _lacks(PostingRow.target_id)),
            ("stray hold", HoldRow.id, _lacks(HoldRow.source_id)),
        ):
            rows = await session.execute(select(id).where(missing).order_by(id).limit(_MOST))
            found += [Difference(check, row[0], 1, 0) for row in rows]
        return found

    async def assets(self, session: AsyncSession) -> list[Difference]:
        """Postings between accounts of two assets."""
        source, target = aliased(AccountRow), aliased(AccountRow)
        found = await session.execute(
            select(PostingRow.transfer_id, PostingRow.source_id, PostingRow.target_id)
            .join(source, source.id == PostingRow.source_id)
            .join(target, target.id == PostingRow.target_id)
            .where(source.asset != target.asset)
            .order_by(PostingRow.id)
            .limit(_MOST)
        )
        return [Difference("asset", *row) for row in found]


def _lacks(account_id: Any) -> Any:
    return ~exists().where(AccountRow.id == account_id)


def _total(column: Any) -> Any:
    return func.coalesce(func.sum(column), 0)


def _name(account: Any) -> Any:
    return account.owner + literal(":") + account.asset + literal(":") + account.kind
