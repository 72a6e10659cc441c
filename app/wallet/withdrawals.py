"""Withdrawals: requested → approved → sent → settled, or rejected on the way. Funds are held all along."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.accounts import FundsHeld, FundsWithdrawn
from app.events.envelope import Envelope
from app.kit import outbox
from app.kit.auth import Principal
from app.kit.problems import Problem
from app.wallet import events
from app.wallet.ledger.accounts import Account, AccountKind, available, platform
from app.wallet.ledger.assets import ASSETS
from app.wallet.ledger.service import Ledger, system_clock
from app.wallet.ledger.transfers import Code, Transfer
from app.wallet.models import WithdrawalRow
from app.wallet.second_factor import SecondFactor
from app.wallet.withdrawal_repository import WithdrawalRepository

_DAY = 24 * 3600 * 1000
_changes = Counter("wallet_withdrawals_total", "Withdrawals that came to a state", ["state"])


class State(StrEnum):
    """Where a withdrawal stands."""

    REQUESTED = "requested"
    """Funds are held."""
    APPROVED = "approved"
    """An operator other than the owner agreed."""
    SENT = "sent"
    """Bank or network has it; the funds are no longer the user's."""
    SETTLED = "settled"
    """It arrived."""
    REJECTED = "rejected"
    """It will not happen; the funds are the user's again."""


NEXT: dict[State, frozenset[State]] = {
    State.REQUESTED: frozenset({State.APPROVED, State.REJECTED}),
    State.APPROVED: frozenset({State.SENT, State.REJECTED}),
    State.SENT: frozenset({State.SETTLED, State.REJECTED}),
    State.SETTLED: frozenset(),
    State.REJECTED: frozenset(),
}
"""The allowed transitions."""


@dataclass(frozen=True, slots=True)
class WithdrawalRequest:
    """What a user asks for."""

    id: str
    """A UUID made by the client: the same request again gets the same withdrawal."""
    asset: str
    amount: int
    """Smallest units."""
    destination: str
    """Account or address, at most 200 characters."""


class Withdrawals:
    """Requests and steps of withdrawals; the transaction is the caller's, with one call in each.

    `unproved_limit` tells for an asset what a user may withdraw in 24 hours without a second factor.
    """

    def __init__(
        self,
        ledger: Ledger,
        second_factor: SecondFactor,
        unproved_limit: Callable[[str], int],
        clock: Callable[[], int] = system_clock,
    ) -> None:
        self._ledger = ledger
        self._second_factor = second_factor
        self._unproved_limit = unproved_limit
        self._clock = clock
        self._repository = WithdrawalRepository()

    async def is_known(self, session: AsyncSession, id: str) -> bool:
        """Whether a withdrawal was asked for by this id."""
        return await self._repository.get(session, id) is not None

    async def request(
        self, session: AsyncSession, user: Principal, wanted: WithdrawalRequest
    ) -> WithdrawalRow:
        """Hold the funds and remember the request.

        Raises:
            Problem: 401 `step-up-required`, 403 `second-factor-required`, 409 `insufficient-funds` or
                `id-in-use`.
            Contended: to be tried again as a whole.
        """
        found = await self._repository.get(session, wanted.id)
        if found is not None:
            return _same(found, user, wanted)
        proved = self._second_factor.proves(user)
        account, pending = available(user.user_id, wanted.asset), _pending(wanted.asset)
        hold = Transfer.hold(
            _hold_id(wanted.id), account, wanted.amount, target=pending, reference="withdrawal"
        )
        await self._ledger.open(
            session, [account, account.held, pending, platform(AccountKind.CUSTODY, wanted.asset)]
        )
        [result] = await self._ledger.apply(session, [hold])
        if result.code in (Code.EXISTS, Code.CONFLICT):
            # Made by another transaction while this one waited for the account.
            made = await self._repository.get(session, wanted.id)
            return _same(made, user, wanted)
        if result.code is not Code.OK:
            # The answer to this id is not kept: after a deposit the same request may succeed.
            raise Problem(409, "insufficient-funds", f"There is not that much {wanted.asset} available.")
        now = self._clock()
        row = WithdrawalRow(
            id=wanted.id,
            owner=user.user_id,
            asset=wanted.asset,
            amount=wanted.amount,
            destination=wanted.destination,
            second_factor=proved,
            state=State.REQUESTED.value,
            approved_by=None,
            decided_by=None,
            note=None,
            created_at=now,
            changed_at=now,
        )
        await self._repository.add(session, row)
        if not proved:
            await self._check_limit(session, row)
        held = events.funds(FundsHeld, row.owner, row.asset, row.amount, hold.id)
        await self._tell(session, row, [held])
        return row

    async def _check_limit(self, session: AsyncSession, row: WithdrawalRow) -> None:
        """After the hold: the account is locked, so requests of one user count one after the other."""
        limit = self._unproved_limit(row.asset)
        asked = await self._repository.unproved_since(session, row.owner, row.asset, row.created_at - _DAY)
        if asked > limit:
            asset = ASSETS[row.asset]
            raise Problem(
                403,
                "second-factor-required",
                f"Without a second factor {asset.text(limit)} {row.asset} can be withdrawn in 24 hours.",
            )

    async def advance(
        self, session: AsyncSession, operator: Principal, id: str, to: State, note: str | None = None
    ) -> WithdrawalRow:
        """Take a withdrawal to another state; the step that an operator took already changes nothing.

        Raises:
            Problem: 404 `unknown-withdrawal`, 409 `invalid-transition`, 403 `own-withdrawal`.
            Contended: to be tried again as a whole.
        """
        row = await self._repository.get(session, id, lock=True)
        if row is None:
            raise _unknown(id)
        if (row.state, row.decided_by, row.note) == (to, operator.user_id, note or row.note):
            return row
        if to not in NEXT[State(row.state)]:
            raise Problem(409, "invalid-transition", f"A withdrawal that is {row.state} cannot become {to}.")
        if operator.user_id == row.owner:
            # Not any step: who rejects what the bank has sent already would have it twice.
            raise Problem(403, "own-withdrawal", "Another operator has to decide on this withdrawal.")
        if to is State.APPROVED:
            row.approved_by = operator.user_id
        told = await self._move(session, row, to)
        row.state, row.decided_by, row.changed_at = to.value, operator.user_id, self._clock()
        row.note = note or row.note
        await session.flush()
        await self._tell(session, row, told)
        return row

    async def _move(self, session: AsyncSession, row: WithdrawalRow, to: State) -> list[Envelope]:
        """The transfer of a step; returns what it means for the user's funds."""
        id, account = f"{_hold_id(row.id)}:{to}", available(row.owner, row.asset)
        told: events.Funds | None = None
        match State(row.state), to:
            case State.APPROVED, State.SENT:
                transfer = Transfer.post(id, _hold_id(row.id), reference="withdrawal sent")
            case State.SENT, State.SETTLED:
                transfer = _move(id, _pending(row.asset), platform(AccountKind.CUSTODY, row.asset), row)
                told = FundsWithdrawn
            case State.SENT, State.REJECTED:
                transfer, told = _move(id, _pending(row.asset), account, row), events.FundsReleased
            case _, State.REJECTED:
                transfer = Transfer.void(id, _hold_id(row.id), reference="withdrawal rejected")
                told = events.FundsReleased
            case _:
                return []
        [result] = await self._ledger.apply(session, [transfer])
        if result.code is not Code.OK:
            raise RuntimeError(f"the ledger refuses {id}: {result.code}")
        return [events.funds(told, row.owner, row.asset, row.amount, id)] if told else []

    async def _tell(self, session: AsyncSession, row: WithdrawalRow, told: Sequence[Envelope]) -> None:
        changed = events.WithdrawalChanged.model_validate(
            {
                "withdrawal_id": row.id,
                "account": row.owner,
                "asset": row.asset,
                "amount": row.amount,
                "state": row.state,
            }
        )
        confirmed = [_confirmation(row)] if row.state == State.SETTLED else []
        await outbox.write(session, [*told, events.withdrawal_changed(changed), *confirmed])
        _changes.labels(row.state).inc()

    async def get(self, session: AsyncSession, user: Principal, id: str) -> WithdrawalRow:
        """A withdrawal of the user, of anybody for an operator; raises Problem 404 `unknown-withdrawal`."""
        row = await self._repository.get(session, id)
        if row is None or (row.owner != user.user_id and "admin" not in user.scopes):
            raise _unknown(id)
        return row

    async def page(
        self,
        session: AsyncSession,
        *,
        owner: str | None = None,
        state: State | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> Sequence[WithdrawalRow]:
        """The newest ones of an owner, in a state, older than the withdrawal `before`.

        Raises:
            Problem: 404 `unknown-withdrawal` when `before` is none of them.
        """
        place: tuple[int, str] | None = None
        if before is not None:
            last = await self._repository.get(session, before)
            if last is None or owner not in (None, last.owner):
                raise _unknown(before)
            place = last.created_at, last.id
        return await self._repository.page(
            session, owner=owner, state=state and state.value, before=place, limit=limit
        )


def _same(row: WithdrawalRow | None, user: Principal, wanted: WithdrawalRequest) -> WithdrawalRow:
    asked = (user.user_id, wanted.asset, wanted.amount, wanted.destination)
    if row is None or (row.owner, row.asset, row.amount, row.destination) != asked:
        raise Problem(409, "id-in-use", f"{wanted.id} is the id of another withdrawal.")
    return row


def _confirmation(row: WithdrawalRow) -> Envelope:
    values = {
        "amount": ASSETS[row.asset].text(row.amount),
        "asset": row.asset,
        "destination": row.destination,
    }
    return events.confirmation(row.owner, "withdrawal-settled", values, id=f"withdrawal:{row.id}:confirmed")


def _move(id: str, source: Account, target: Account, row: WithdrawalRow) -> Transfer:
    return Transfer.move(id, source, target, row.amount, reference="withdrawal")


def _unknown(id: str) -> Problem:
    return Problem(404, "unknown-withdrawal", f"There is no withdrawal {id}.")


def _pending(asset: str) -> Account:
    return platform(AccountKind.PENDING_WITHDRAWAL, asset)


def _hold_id(id: str) -> str:
    return f"withdrawal:{id}"
