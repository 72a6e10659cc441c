"""Deposits: what came in at a bank or on a network, once for each external reference."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from app.events.accounts import FundsDeposited
from app.kit import outbox
from app.wallet import events
from app.wallet.ledger.accounts import AccountKind, available, platform
from app.wallet.ledger.service import Ledger
from app.wallet.ledger.transfers import Code, Result, Transfer


@dataclass(frozen=True, slots=True)
class Deposit:
    """Funds of a user that arrived."""

    reference: str
    """What bank or network calls it, at most 90 characters; unique."""
    owner: str
    asset: str
    amount: int
    """Smallest units."""


class Deposits:
    """Books deposits; the transaction is the caller's."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def book(self, session: AsyncSession, deposit: Deposit) -> Result:
        """Credit the user and the platform's custody; the same reference again changes nothing.

        Raises:
            ValueError: owner, asset, reference or amount cannot be those of any deposit.
            Contended: to be tried again as a whole.
        """
        custody = platform(AccountKind.CUSTODY, deposit.asset)
        account = available(deposit.owner, deposit.asset)
        transfer = Transfer.move(
            f"deposit:{deposit.reference}", custody, account, deposit.amount, reference="deposit"
        )
        await self._ledger.open(session, [custody, account, account.held])
        [result] = await self._ledger.apply(session, [transfer])
        if result.code is Code.OK:
            event = events.funds(FundsDeposited, deposit.owner, deposit.asset, deposit.amount, transfer.id)
            await outbox.write(session, [event])
        return result
