"""SQL of margin calls and the steps of forced closes."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.risk.models import ClosingStepRow, MarginCallRow

LIVE = ("called", "cancelling", "selling")


class MarginRepository:
    """Margin calls; one is live for an owner at most."""

    async def live(self, session: AsyncSession, owner: str | None = None) -> Sequence[MarginCallRow]:
        """Calls that are not over, of one owner or of all."""
        chosen = select(MarginCallRow).where(MarginCallRow.state.in_(LIVE)).order_by(MarginCallRow.id)
        if owner is not None:
            chosen = chosen.where(MarginCallRow.owner == owner)
        return (await session.scalars(chosen)).all()

    async def get(self, session: AsyncSession, id: int) -> MarginCallRow:
        """A call; one has this id."""
        return await session.get_one(MarginCallRow, id, populate_existing=True)

    async def add(self, session: AsyncSession, row: MarginCallRow | ClosingStepRow) -> None:
        """Add a call, which then has its id, or a step."""
        session.add(row)
        await session.flush()

    async def step(self, session: AsyncSession, call_id: int, step: int) -> ClosingStepRow | None:
        """A step of a forced close."""
        return await session.get(ClosingStepRow, (call_id, step), populate_existing=True)

    async def steps(self, session: AsyncSession, call_id: int) -> Sequence[ClosingStepRow]:
        """All steps of a forced close, in their order."""
        chosen = select(ClosingStepRow).where(ClosingStepRow.call_id == call_id)
        return (await session.scalars(chosen.order_by(ClosingStepRow.step))).all()

    async def unfilled_since(
        self, session: AsyncSession, call_id: int, since: int
    ) -> Sequence[ClosingStepRow]:
        """Orders of a forced close that traded nothing, from a moment on."""
        chosen = select(ClosingStepRow).where(
            ClosingStepRow.call_id == call_id,
            ClosingStepRow.kind == "trade",
            ClosingStepRow.state == "done",
            ClosingStepRow.filled == 0,
            ClosingStepRow.at >= since,
        )
        return (await session.scalars(chosen)).all()
