"""The rules of the ledger over the part of it that a batch touches: pure, no I/O, no clock."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from app.wallet.ledger.accounts import BOUNDS, Account
from app.wallet.ledger.assets import LARGEST
from app.wallet.ledger.transfers import Code, Kind, Result, Transfer


class HoldState(StrEnum):
    """Where a hold stands; only `pending` has something left."""

    PENDING = "pending"
    POSTED = "posted"
    VOIDED = "voided"
    EXPIRED = "expired"


_CLOSED = {
    HoldState.POSTED: Code.ALREADY_POSTED,
    HoldState.VOIDED: Code.ALREADY_VOIDED,
    HoldState.EXPIRED: Code.EXPIRED,
}


class Hold(NamedTuple):
    """An amount set aside: amount = posted + released + left."""

    id: str
    source: Account
    target: Account | None
    amount: int
    posted: int
    released: int
    """What went back to the source."""
    state: HoldState
    expires_at: int | None
    """Unix time in milliseconds."""

    @property
    def left(self) -> int:
        """What can still be posted."""
        return self.amount - self.posted - self.released


class Posting(NamedTuple):
    """An amount that went from one account to another, with both balances after it."""

    transfer_id: str
    source: Account
    target: Account
    amount: int
    source_balance: int
    target_balance: int


class Answered(NamedTuple):
    """A transfer that the ledger knows: its content's fingerprint and its answer."""

    fingerprint: int
    code: Code
    amount: int


class _Refused(Exception):
    def __init__(self, code: Code) -> None:
        self.code = code


@dataclass
class Book:
    """Balances, holds and answers that a batch needs; collects what it changes."""

    balances: dict[Account, int]
    """Balance of every account that exists among those that the batch names."""
    holds: dict[str, Hold]
    answered: dict[str, Answered]
    now: int
    """Unix time in milliseconds."""
    postings: list[Posting] = field(default_factory=list)
    new: dict[str, tuple[Transfer, Answered]] = field(default_factory=dict)
    """Transfers answered for the first time."""
    _undo: list[tuple[Account, int] | tuple[str, Hold | None]] = field(default_factory=list)
    _touched: tuple[set[Account], set[str]] = field(default_factory=lambda: (set(), set()))

    @property
    def changed_balances(self) -> dict[Account, int]:
        """The accounts that were posted to, with their balances now."""
        return {account: self.balances[account] for account in self._touched[0]}

    @property
    def changed_holds(self) -> list[Hold]:
        """The holds that were made or changed, as they are now."""
        return [self.holds[id] for id in self._touched[1]]

    def apply(self, chain: list[Transfer]) -> list[Result]:
        """Do all of a chain or nothing; one result for each of its transfers."""
        mark, posted = len(self._undo), len(self.postings)
        results: list[Result] = []
        for place, transfer in enumerate(chain):
            first = transfer.id not in self.answered
            results.append(self._apply(transfer) if first else self._again(transfer))
            if len(chain) > 1 and not (first and results[-1].code is Code.OK):
                if place == 0 and all(other.id in self.answered for other in chain):
                    return [self._again(other) for other in chain]
                self._roll_back(mark)
                del self.postings[posted:]
                return self._fail(chain, place, results[-1])
        self._keep(zip(chain, results, strict=True))
        self._settle_touched(mark)
        return results

    def _fail(self, chain: list[Transfer], place: int, result: Result) -> list[Result]:
        """The answers to a chain whose transfer at `place` broke it."""
        results = []
        for number, transfer in enumerate(chain):
            if transfer.id in self.answered:
                results.append(self._again(transfer))
            else:
                results.append(result if number == place else Result(transfer.id, Code.LINKED_FAILED))
                self._keep([(transfer, results[-1])])
        return results

    def _again(self, transfer: Transfer) -> Result:
        known = self.answered[transfer.id]
        if known.fingerprint != transfer.fingerprint:
            return Result(transfer.id, Code.CONFLICT)
        return Result(transfer.id, Code.EXISTS if known.code is Code.OK else known.code, known.amount)

    def _keep(self, answers: Iterable[tuple[Transfer, Result]]) -> None:
        for transfer, result in answers:
            if transfer.id not in self.answered:
                answer = Answered(transfer.fingerprint, result.code, result.amount)
                self.answered[transfer.id] = answer
                self.new[transfer.id] = transfer, answer

    def _apply(self, transfer: Transfer) -> Result:
        mark, posted = len(self._undo), len(self.postings)
        try:
            match transfer.kind:
                case Kind.MOVE:
                    amount = self._move_funds(transfer)
                case Kind.HOLD:
                    amount = self._make_hold(transfer)
                case Kind.POST:
                    amount = self._post(transfer)
                case Kind.GROW:
                    amount = self._grow(transfer)
                case Kind.SHRINK:
                    amount = self._shrink(transfer)
                case Kind.VOID | Kind.EXPIRE:
                    amount = self._give_back(transfer)
        except _Refused as refused:
            self._roll_back(mark)
            del self.postings[posted:]
            return Result(transfer.id, refused.code)
        return Result(transfer.id, Code.OK, amount)

    def _move_funds(self, transfer: Transfer) -> int:
        source, amount = _funds(transfer)
        self._move(transfer.id, source, transfer.target or source, amount)
        return amount

    def _make_hold(self, transfer: Transfer) -> int:
        source, amount = _funds(transfer)
        if transfer.target is not None and transfer.target not in self.balances:
            raise _Refused(Code.UNKNOWN_ACCOUNT)
        self._move(transfer.id, source, source.held, amount)
        expires_at = None if transfer.timeout is None else self.now + transfer.timeout * 1000
        self._change(Hold(transfer.id, source, transfer.target, amount, 0, 0, HoldState.PENDING, expires_at))
        return amount

    def _post(self, transfer: Transfer) -> int:
        hold = self._open(transfer)
        target = transfer.target or hold.target
        if target is None or target.asset != hold.source.asset or hold.target not in (None, target):
            raise _Refused(Code.TARGET_MISMATCH)
        amount = hold.left if transfer.amount is None else transfer.amount
        if amount > hold.left:
            raise _Refused(Code.AMOUNT_EXCEEDS_PENDING)
        self._move(transfer.id, hold.source.held, target, amount)
        hold = hold._replace(posted=hold.posted + amount)
        if hold.left and not transfer.keep:
            self._move(transfer.id, hold.source.held, hold.source, hold.left)
            hold = hold._replace(released=hold.released + hold.left)
        self._change(hold if hold.left else hold._replace(state=HoldState.POSTED))
        return amount

    def _grow(self, transfer: Transfer) -> int:
        hold, amount = self._open(transfer), transfer.amount or 0
        if hold.amount + amount > LARGEST:
            raise _Refused(Code.BALANCE_OVERFLOW)
        self._move(transfer.id, hold.source, hold.source.held, amount)
        self._change(hold._replace(amount=hold.amount + amount))
        return amount

    def _shrink(self, transfer: Transfer) -> int:
        hold, amount = self._open(transfer), transfer.amount or 0
        if amount > hold.left:
            raise _Refused(Code.AMOUNT_EXCEEDS_PENDING)
        self._move(transfer.id, hold.source.held, hold.source, amount)
        hold = hold._replace(amount=hold.amount - amount)
        self._change(hold if hold.left else hold._replace(state=HoldState.VOIDED))
        return amount

    def _give_back(self, transfer: Transfer) -> int:
        hold = self._pending(transfer)
        over, expiring = self._is_over(hold), transfer.kind is Kind.EXPIRE
        if over is not expiring:
            raise _Refused(Code.EXPIRED if over else Code.NOT_EXPIRED)
        amount = hold.left
        self._move(transfer.id, hold.source.held, hold.source, amount)
        state = HoldState.EXPIRED if expiring else HoldState.VOIDED
        self._change(hold._replace(released=hold.released + amount, state=state))
        return amount

    def _pending(self, transfer: Transfer) -> Hold:
        hold = self.holds.get(transfer.hold_id or "")
        if hold is None:
            raise _Refused(Code.UNKNOWN_HOLD)
        if hold.state is not HoldState.PENDING:
            raise _Refused(_CLOSED[hold.state])
        return hold

    def _open(self, transfer: Transfer) -> Hold:
        hold = self._pending(transfer)
        if self._is_over(hold):
            raise _Refused(Code.EXPIRED)
        return hold

    def _is_over(self, hold: Hold) -> bool:
        return hold.expires_at is not None and hold.expires_at <= self.now

    def _move(self, transfer_id: str, source: Account, target: Account, amount: int) -> None:
        if source not in self.balances or target not in self.balances:
            raise _Refused(Code.UNKNOWN_ACCOUNT)
        before = self.balances[source], self.balances[target]
        after = before[0] - amount, before[1] + amount
        if after[0] < BOUNDS[source.kind][0]:
            raise _Refused(Code.INSUFFICIENT_FUNDS if BOUNDS[source.kind][0] == 0 else Code.BALANCE_OVERFLOW)
        if after[1] > BOUNDS[target.kind][1]:
            raise _Refused(Code.INSUFFICIENT_FUNDS if BOUNDS[target.kind][1] == 0 else Code.BALANCE_OVERFLOW)
        self._undo += [(source, before[0]), (target, before[1])]
        self.balances[source], self.balances[target] = after
        self.postings.append(Posting(transfer_id, source, target, amount, *after))

    def _change(self, hold: Hold) -> None:
        self._undo.append((hold.id, self.holds.get(hold.id)))
        self.holds[hold.id] = hold

    def _roll_back(self, mark: int) -> None:
        while len(self._undo) > mark:
            match self._undo.pop():
                case str(id), None:
                    del self.holds[id]
                case str(id), Hold() as hold:
                    self.holds[id] = hold
                case Account() as account, int(balance):
                    self.balances[account] = balance

    def _settle_touched(self, mark: int) -> None:
        """What a finished chain changed is never undone again."""
        for key, _ in self._undo[mark:]:
            if isinstance(key, str):
                self._touched[1].add(key)
            else:
                self._touched[0].add(key)
        del self._undo[mark:]


def _funds(transfer: Transfer) -> tuple[Account, int]:
    """Source and amount of a transfer that has them."""
    if transfer.source is None or transfer.amount is None:
        raise ValueError(f"{transfer.id}: a {transfer.kind} needs a source and an amount")
    return transfer.source, transfer.amount
