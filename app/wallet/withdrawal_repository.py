"""SQL of withdrawals."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.wallet.models import WithdrawalRow


class WithdrawalRepository:
    """Withdrawals."""

    async def get(self, session: AsyncSession, id: str, *, lock: bool = False) -> WithdrawalRow | None:
        """One withdrawal; with `lock` nobody else changes it before the end of the transaction."""
        wanted = select(WithdrawalRow).where(WithdrawalRow.id == id).execution_options(populate_existing=True)
        return await session.scalar(wanted.with_for_update() if lock else wanted)

    async def add(self, session: AsyncSession, row: WithdrawalRow) -> None:
        """Add one."""
        session.add(row)
        await session.flush()

    async def unproved_since(self, session: AsyncSession, owner: str, asset: str, since: int) -> int:
        """What a user asked for without a second factor since a moment, without what was rejected."""
        total = select(func.coalesce(func.sum(WithdrawalRow.amount), 0)).where(
            WithdrawalRow.owner == owner,
            WithdrawalRow.asset == asset,
            WithdrawalRow.created_at > since,
            WithdrawalRow.second_factor.is_(False),
            WithdrawalRow.state != "rejected",
        )
        return int(await session.scalar(total) or 0)

    async def page(
        self,
        session: AsyncSession,
        *,
        owner: str | None,
        state: str | None,
        before: tuple[int, str] | None,
        limit: int,
    ) -> Sequence[WithdrawalRow]:
        """The newest ones of an owner or state before (created_at, id), the newest first."""
        row = WithdrawalRow
        wanted = select(row).order_by(row.created_at.desc(), row.id.desc()).limit(limit)
        if owner is not None:
            wanted = wanted.where(row.owner == owner)
        if state is not None:
            wanted = wanted.where(row.state == state)
        if before is not None:
            moment, id = before
            same = (row.created_at == moment) & (row.id < id)
            wanted = wanted.where((row.created_at < moment) | same)
        return (await session.scalars(wanted)).all()
