"""What margin reads of the wallet, and how a forced close pays a loan back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.errors import Unavailable
from app.kit.problems import Problem
from app.risk.wallet_repository import leaving
from app.wallet.ledger.accounts import AccountKind
from app.wallet.ledger.book import HoldState
from app.wallet.ledger.repository import Contended
from app.wallet.ledger.service import Ledger
from app.wallet.order_repository import hold_id


@dataclass(frozen=True, slots=True)
class Holding:
    """What somebody has of an asset, in smallest units."""

    free: int = 0
    held: int = 0

    @property
    def total(self) -> int:
        """Both."""
        return self.free + self.held


class Loan(Protocol):
    """What somebody owes of an asset."""

    @property
    def owner(self) -> str:
        """Who owes."""

    @property
    def asset(self) -> str:
        """What."""

    @property
    def amount(self) -> int:
        """How much, in smallest units."""


class LoanBook(Protocol):
    """Margin loans, see `app.wallet.loans`."""

    async def outstanding(self, session: AsyncSession, owners: Sequence[str] | None) -> Sequence[Loan]:
        """What is owed, by some owners or by all."""

    async def repay(self, session: AsyncSession, owner: str, asset: str, amount: int, id: str) -> object:
        """Pay back from available funds; the same `id` again changes nothing."""


class Funds(Protocol):
    """The wallet as margin sees it."""

    async def holdings(self, session: AsyncSession, owner: str) -> dict[str, Holding]:
        """Asset → what the owner has, without what is held for withdrawals: that is as good as gone."""

    async def debts(
        self, session: AsyncSession, owners: Sequence[str] | None = None
    ) -> dict[str, dict[str, int]]:
        """Owner → asset → what is owed, of some owners or of all; owners without debts are left out."""

    async def repay(self, session: AsyncSession, owner: str, asset: str, amount: int, id: str) -> None:
        """Pay a loan back from available funds, once for each `id`; last in its transaction."""

    async def is_settled(self, session: AsyncSession, order_id: int) -> bool:
        """Whether all that an order that ended traded is booked, and the rest of its hold is free."""


class LedgerFunds:
    """`Funds` of the ledger."""

    def __init__(self, ledger: Ledger, loans: LoanBook) -> None:
        self._ledger = ledger
        self._loans = loans

    async def holdings(self, session: AsyncSession, owner: str) -> dict[str, Holding]:
        """See `Funds`."""
        found: dict[str, Holding] = {}
        for account, balance in (await self._ledger.balances(session, owner)).items():
            known = found.get(account.asset, Holding())
            if account.kind is AccountKind.AVAILABLE:
                found[account.asset] = Holding(known.free + balance, known.held)
            elif account.kind is AccountKind.HELD:
                found[account.asset] = Holding(known.free, known.held + balance)
        for asset, amount in (await leaving(session, owner)).items():
            known = found.get(asset, Holding())
            found[asset] = Holding(known.free, max(known.held - amount, 0))
        return found

    async def debts(
        self, session: AsyncSession, owners: Sequence[str] | None = None
    ) -> dict[str, dict[str, int]]:
        """See `Funds`."""
        found: dict[str, dict[str, int]] = {}
        for loan in await self._loans.outstanding(session, owners):
            if loan.amount > 0:
                found.setdefault(loan.owner, {})[loan.asset] = loan.amount
        return found

    async def repay(self, session: AsyncSession, owner: str, asset: str, amount: int, id: str) -> None:
        """See `Funds`.

        Raises:
            Unavailable: debt or funds changed meanwhile; to be decided anew.
        """
        try:
            await self._loans.repay(session, owner, asset, amount, id)
        except (Contended, Problem) as error:
            raise Unavailable("ledger", error) from error

    async def is_settled(self, session: AsyncSession, order_id: int) -> bool:
        """See `Funds`."""
        id = hold_id(str(order_id), None)
        hold = (await self._ledger.holds(session, [id])).get(id)
        return hold is None or hold.state is not HoldState.PENDING
