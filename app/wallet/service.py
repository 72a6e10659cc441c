"""The wallet of one process: its services over one ledger, and what it does by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from app.kit import outbox
from app.kit.auth import Principal
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.kit.problems import Problem
from app.wallet import events
from app.wallet.checks import Identities, NoRiskCheck, OneAtATime, RiskCheck, Verdict
from app.wallet.deposits import Deposits
from app.wallet.ledger.reconciliation import Reconciliation
from app.wallet.ledger.repository import Contended
from app.wallet.ledger.service import Ledger, system_clock
from app.wallet.ledger.transfers import Result
from app.wallet.loans import Loans
from app.wallet.models import WithdrawalRow
from app.wallet.orders import OrderFunds
from app.wallet.second_factor import SecondFactor, SessionSecondFactor
from app.wallet.settings import WalletSettings
from app.wallet.withdrawals import WithdrawalRequest, Withdrawals

_ATTEMPTS = 5
_SWEEP = 500
_SWEEP_SECONDS = 1.0
_INTEREST_SECONDS = 60.0
"""How late the interest of an hour may be; its amount does not depend on it."""
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
    loans: Loans
    identities: Identities
    risk: RiskCheck
    one_at_a_time: OneAtATime
    reconciliation: Reconciliation

    @classmethod
    def of(
        cls,
        database: Database,
        settings: WalletSettings,
        clock: Callable[[], int] = system_clock,
        second_factor: SecondFactor | None = None,
        risk: RiskCheck | None = None,
    ) -> "Wallet":
        """The services with their adapters; `clock` is Unix time in milliseconds, without `risk` nobody is
        asked."""
        ledger = Ledger(database, clock)
        proof = second_factor or SessionSecondFactor(clock)
        return cls(
            database,
            settings,
            ledger,
            OrderFunds(database, ledger, settings.fees, clock),
            Deposits(ledger),
            Withdrawals(ledger, proof, settings.unproved_limit, clock),
            Loans(database, ledger, settings.loan_rate_bps, clock),
            Identities(database),
            risk or NoRiskCheck(),
            OneAtATime(database),
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

    async def withdraw(self, user: Principal, wanted: WithdrawalRequest) -> WithdrawalRow:
        """Take a request to withdraw, when identity and risk allow it.

        Raises:
            Problem: as `Withdrawals.request`; 403 `identity-not-verified` or `risk-refused`.
            Unavailable: the risk role does not answer; nothing was held.
        """
        async with self.database.transaction(read_only=True) as session:
            known = await self.withdrawals.is_known(session, wanted.id)
            level = await self.identities.level(session, user.user_id)
        if known:
            return await self.transact(partial(self.withdrawals.request, user=user, wanted=wanted))
        if self.settings.kyc_required and level < 1:
            raise Problem(403, "identity-not-verified", "Your identity has to be verified first.")
        async with self.one_at_a_time.of(user.user_id):
            _check(await self.risk.withdrawal(user.user_id, wanted.asset, wanted.amount))
            return await self.transact(partial(self.withdrawals.request, user=user, wanted=wanted))

    async def lend(self, owner: str, asset: str, amount: int, id: str) -> Result:
        """Lend to a user when risk allows it; the same `id` again changes nothing.

        Raises:
            Problem: as `Loans.borrow`; 403 `risk-refused`.
            Unavailable: the risk role does not answer; nothing was lent.
        """
        async with self.database.transaction(read_only=True) as session:
            known = await self.loans.is_known(session, id)
        work = partial(self.loans.borrow, owner=owner, asset=asset, amount=amount, id=id)
        if known:
            return await self.transact(work)
        async with self.one_at_a_time.of(owner):
            _check(await self.risk.loan(owner, asset, amount))
            return await self.transact(work)

    async def run_interest(self) -> None:
        """Book the interest of loans until cancelled; raises Unavailable when the database is gone."""
        while True:
            if await self.transact(self.loans.accrue) < _SWEEP:
                await asyncio.sleep(_INTEREST_SECONDS)

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


def _check(verdict: Verdict) -> None:
    if not verdict.allowed:
        raise Problem(
            403, "risk-refused", "What you have left would not be enough for that.", reason=verdict.reason
        )
