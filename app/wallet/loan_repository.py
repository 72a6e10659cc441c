"""SQL of margin loans."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database import Database
from app.wallet.ledger.accounts import AccountKind
from app.wallet.ledger.models import AccountRow
from app.wallet.models import LoanRow


@dataclass(frozen=True, slots=True)
class LoanState:
    """What a user owes of an asset, and until when its interest is booked."""

    id: int
    owner: str
    asset: str
    hour: int
    """Hours since 1970; those before it are booked."""
    carry: int
    debt: int


_DEBT = and_(
    AccountRow.owner == LoanRow.owner,
    AccountRow.asset == LoanRow.asset,
    AccountRow.kind == AccountKind.LOAN.value,
)
_STATE = (LoanRow.id, LoanRow.owner, LoanRow.asset, LoanRow.hour, LoanRow.carry)


class LoanRepository:
    """Loans. The row of a loan is locked by all that change its debt."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def debts(self, session: AsyncSession, owners: Sequence[str] | None) -> list[tuple[str, str, int]]:
        """Owner, asset and debt of the loans that are not paid back."""
        wanted = (
            select(AccountRow.owner, AccountRow.asset, -AccountRow.balance)
            .where(AccountRow.kind == AccountKind.LOAN.value, AccountRow.balance < 0)
            .order_by(AccountRow.owner, AccountRow.asset)
        )
        if owners is not None:
            wanted = wanted.where(AccountRow.owner.in_(owners))
        return [(owner, asset, debt) for owner, asset, debt in await session.execute(wanted)]

    async def lock(self, session: AsyncSession, owner: str, asset: str, hour: int) -> LoanState:
        """A loan, locked to the end of the transaction; made from the hour `hour` on if there is none."""
        new = self._database.insert(LoanRow).values(owner=owner, asset=asset, hour=hour, carry=0)
        await session.execute(new.on_conflict_do_nothing())
        one = select(*_STATE).where(LoanRow.owner == owner, LoanRow.asset == asset).with_for_update()
        row = (await session.execute(one)).one()
        # Read after the lock: whoever held it before may have changed the debt.
        debt = select(func.coalesce(func.sum(-AccountRow.balance), 0)).where(
            AccountRow.owner == owner,
            AccountRow.asset == asset,
            AccountRow.kind == AccountKind.LOAN.value,
        )
        return LoanState(*row, int(await session.scalar(debt) or 0))

    async def lock_due(self, session: AsyncSession, hour: int, limit: int) -> list[LoanState]:
        """Loans with hours that are not booked, the oldest first; those that somebody changes are left."""
        due = (
            select(*_STATE)
            .where(LoanRow.hour < hour)
            .order_by(LoanRow.hour, LoanRow.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        rows = (await session.execute(due)).all()
        debts = await session.execute(
            select(LoanRow.id, (-AccountRow.balance).label("debt"))
            .join(AccountRow, _DEBT)
            .where(LoanRow.id.in_([row.id for row in rows]))
        )
        known = {row.id: row.debt for row in debts}
        return [LoanState(*row, known.get(row.id, 0)) for row in rows]

    async def save(self, session: AsyncSession, loans: Sequence[LoanState]) -> None:
        """Write the hours and fractions of loans that are locked."""
        if not loans:
            return
        insert = self._database.insert(LoanRow)
        saving = insert.on_conflict_do_update(
            index_elements=["id"], set_={"hour": insert.excluded.hour, "carry": insert.excluded.carry}
        )
        rows = [{name: value for name, value in asdict(one).items() if name != "debt"} for one in loans]
        await session.execute(saving, rows)
