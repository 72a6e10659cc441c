"""The wallet of one process: its services over one ledger, and what it does by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from app.kit import outbox
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.wallet import events
from app.wallet.deposits import Deposits
from app.wallet.ledger.reconciliation import Reconciliation
from app.wallet.ledger.repository import Contended
from app.wallet.ledger.service import Ledger, system_clock
from app.wallet.orders import OrderFunds
from app.wallet.second_factor import SecondFactor, SessionSecondFactor
from app.wallet.settings import WalletSettings
from app.wallet.withdrawals import Withdrawals

_ATTEMPTS = 5
_SWEEP = 500
_SWEEP_SECONDS = 1.0
T = TypeVar("T")


@dataclass(frozen=True)
class Wallet:
    """The services of the wallet."""

    database: Database
    settings: WalletSettings
    ledger: Ledger
    orders: OrderFunds
    deposits: Deposits
    withdrawals: Withdrawals
    reconciliation: Reconciliation

    @classmethod
    def of(
        cls,
        database: Database,
        settings: WalletSettings,
        clock: Callable[[], int] = system_clock,
        second_factor: SecondFactor | None = None,
    ) -> "Wallet":
        """The services with their adapters; `clock` is Unix time in milliseconds."""
        ledger = Ledger(database, clock)
        proof = second_factor or SessionSecondFactor(clock)
        return cls(
            database,
            settings,
            ledger,
            OrderFunds(database, ledger, settings.fees, clock),
            Deposits(ledger),
            Withdrawals(ledger, proof, settings.unproved_limit, clock),
            Reconciliation(database, settings.reconcile_seconds),
        )

    async def transact(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Run `work` in a transaction of its own, again when another one used the same new ids just then.

        Raises:
            Unavailable: the database is gone, or it happened five times.
        """
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(Contended), stop=stop_after_attempt(_ATTEMPTS), reraise=True
        )
        try:
            return await attempts(self._once, work)
        except Contended as error:
            raise Unavailable("ledger", error) from error

    async def _once(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        async with self.database.transaction() as session:
            return await work(session)

    async def prepare(self) -> None:
        """Before anything is served: amounts mean what they meant; raises Unavailable, ConfigurationError."""
        async with self.database.transaction() as session:
            await self.ledger.prepare(session)

    async def sweep(self) -> int:
        """Give back the holds whose time is over, with their events; returns how many, at most 500."""

        async def work(session: AsyncSession) -> int:
            ended = await self.ledger.expire(session, _SWEEP)
            told = [
                events.funds(
                    events.FundsReleased,
                    hold.source.owner,
                    hold.source.asset,
                    hold.released,
                    f"expire:{hold.id}",
                )
                for hold in ended
            ]
            await outbox.write(session, told)
            return len(ended)

        return await self.transact(work)

    async def run_sweeps(self) -> None:
        """Sweep until cancelled; raises Unavailable when the database is gone."""
        while True:
            if await self.sweep() < _SWEEP:
                await asyncio.sleep(_SWEEP_SECONDS)
