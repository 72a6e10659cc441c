"""SQL of what margin has to know of withdrawals."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.wallet.models import WithdrawalRow
from app.wallet.withdrawals import State

_HELD = (State.REQUESTED.value, State.APPROVED.value)


async def leaving(session: AsyncSession, owner: str) -> dict[str, int]:
    """Asset → what holds keep for an owner's withdrawals, in smallest units."""
    chosen = (
        select(WithdrawalRow.asset, func.sum(WithdrawalRow.amount))
        .where(WithdrawalRow.owner == owner, WithdrawalRow.state.in_(_HELD))
        .group_by(WithdrawalRow.asset)
    )
    return {asset: int(amount) for asset, amount in await session.execute(chosen)}
