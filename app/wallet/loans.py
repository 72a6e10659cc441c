"""Margin loans: lent to a user against what the user has, paid back with interest.

A loan is the balance of an account of kind `loan`, at most zero: what the user owes. The platform lends what
it has itself, so a loan makes the user's funds and the platform's claim in one transfer.

Interest, exactly: at each full hour (UTC) the debt of that moment costs `rate` basis points of a year of
8,760 hours. Whole smallest units are added to the debt; the fraction, in 1/87,600,000 of a unit, is carried
to the next hour. When it is booked later, nothing changes: every hour is counted on its own, on the debt with
the interest of the hours before it, and no debt changes before the hours until then are booked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.envelope import Envelope
from app.kit import outbox
from app.kit.database import Database
from app.kit.problems import Problem
from app.wallet import events
from app.wallet.ledger.accounts import Account, AccountKind, available, loan, platform
from app.wallet.ledger.service import Ledger, system_clock
from app.wallet.ledger.transfers import Code, Result, Transfer
from app.wallet.loan_repository import LoanRepository, LoanState

HOUR = 3_600_000
_YEAR = 10_000 * 8760
"""Basis points times hours of a year: what carried fractions are counted in."""
_MOST_HOURS = 24 * 31
"""Hours that one booking counts; after a longer pause the rest follows with the next one."""
_interest = Counter("wallet_interest_total", "Interest booked, in smallest units", ["asset"])


@dataclass(frozen=True, slots=True)
class Loan:
    """What a user owes of an asset."""

    owner: str
    asset: str
    amount: int
    """Smallest units, without the interest of hours that are not booked yet; more than zero."""


def interest(debt: int, carry: int, rate: int, hours: int) -> tuple[int, int]:
    """Interest of some hours on a debt, and the fraction that is carried on."""
    total = 0
    for _ in range(hours):
        more, carry = divmod((debt + total) * rate + carry, _YEAR)
        total += more
    return total, carry


class Loans:
    """Lends and takes back; the transaction is the caller's, with one call in each."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        rate: int,
        clock: Callable[[], int] = system_clock,
    ) -> None:
        """`rate` is in basis points a year; `clock` is Unix time in milliseconds."""
        self._repository = LoanRepository(database)
        self._ledger = ledger
        self._rate = rate
        self._clock = clock

    async def outstanding(self, session: AsyncSession, owners: Sequence[str] | None) -> list[Loan]:
        """What is owed by some owners, by all without a list; those who owe nothing are left out."""
        found = await self._repository.debts(session, owners)
        return [Loan(owner, asset, amount) for owner, asset, amount in found]

    async def is_known(self, session: AsyncSession, id: str) -> bool:
        """Whether a loan was given by this id."""
        return f"borrow:{id}" in await self._ledger.known(session, [f"borrow:{id}"])

    async def borrow(self, session: AsyncSession, owner: str, asset: str, amount: int, id: str) -> Result:
        """Lend; the same `id` again changes nothing. Whether the user may is asked before.

        Raises:
            Problem: 409 `id-in-use`, `loan-refused`: more than an account can hold.
            ValueError: an amount or id that no transfer can have.
            Contended: to be tried again as a whole.
        """
        account, debt = available(owner, asset), loan(owner, asset)
        await self._ledger.open(session, [account, account.held, debt, _income(asset)])
        transfer = Transfer.move(f"borrow:{id}", debt, account, amount, reference="loan")
        result = await self._change(session, owner, asset, transfer, id)
        if not result.done:
            raise Problem(409, "loan-refused", f"The ledger refuses the loan: {result.code}.")
        await self._tell(session, result, events.funds(events.LoanTaken, owner, asset, amount, transfer.id))
        return result

    async def repay(self, session: AsyncSession, owner: str, asset: str, amount: int, id: str) -> Result:
        """Take an amount of the debt back from available funds; the same `id` again changes nothing.

        Raises:
            Problem: 409 `id-in-use`, `exceeds-debt` with the member `debt` in smallest units,
                `insufficient-funds`.
            ValueError: an amount or id that no transfer can have.
            Contended: to be tried again as a whole.
        """
        account, debt = available(owner, asset), loan(owner, asset)
        transfer = Transfer.move(f"repay:{id}", account, debt, amount, reference="loan")
        result = await self._change(session, owner, asset, transfer, id)
        if not result.done:
            owed = sum(one.amount for one in await self.outstanding(session, [owner]) if one.asset == asset)
            if amount > owed:
                raise Problem(409, "exceeds-debt", f"Less {asset} is owed than that.", debt=owed)
            raise Problem(409, "insufficient-funds", f"There is not that much {asset} available.")
        await self._tell(session, result, events.funds(events.LoanRepaid, owner, asset, amount, transfer.id))
        return result

    async def accrue(self, session: AsyncSession, limit: int = 500) -> int:
        """Book the interest of hours that are over; returns how many loans were looked at."""
        due = await self._repository.lock_due(session, self._hour(), limit)
        transfers = [transfer for state in due if (transfer := self._book(state)[1]) is not None]
        await self._apply(session, transfers)
        await self._repository.save(session, [self._book(state)[0] for state in due])
        for transfer in transfers:
            _interest.labels(_asset(transfer)).inc(transfer.amount or 0)
        return len(due)

    async def _change(
        self, session: AsyncSession, owner: str, asset: str, transfer: Transfer, id: str
    ) -> Result:
        """A transfer that changes a debt, after the interest until now."""
        state = await self._repository.lock(session, owner, asset, self._hour())
        state, booked = self._book(state)
        [*_, result] = await self._ledger.apply(session, [*([booked] if booked else []), transfer])
        if result.code is Code.CONFLICT:
            raise Problem(409, "id-in-use", f"{id} is the id of another loan or repayment.")
        await self._repository.save(session, [state])
        return result

    def _book(self, state: LoanState) -> tuple[LoanState, Transfer | None]:
        """The loan with the hours until now, and the transfer of their interest."""
        hours = min(self._hour() - state.hour, _MOST_HOURS)
        if hours <= 0:
            return state, None
        amount, carry = interest(state.debt, state.carry, self._rate, hours)
        booked = replace(state, hour=state.hour + hours, carry=carry)
        if not amount:
            return booked, None
        id = f"interest:{state.id}:{booked.hour}"
        debt = loan(state.owner, state.asset)
        return booked, Transfer.move(id, debt, _income(state.asset), amount, reference="loan interest")

    async def _apply(self, session: AsyncSession, transfers: Sequence[Transfer]) -> None:
        for result in await self._ledger.apply(session, transfers):
            if result.code is not Code.OK:
                raise RuntimeError(f"the ledger refuses {result.id}: {result.code}")

    async def _tell(self, session: AsyncSession, result: Result, event: Envelope) -> None:
        if result.code is Code.OK:
            await outbox.write(session, [event])

    def _hour(self) -> int:
        return self._clock() // HOUR


def _income(asset: str) -> Account:
    return platform(AccountKind.INTEREST, asset)


def _asset(transfer: Transfer) -> str:
    return transfer.source.asset if transfer.source else ""
