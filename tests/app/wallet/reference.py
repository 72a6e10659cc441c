"""A slow and obvious ledger of dictionaries, to compare the real one with."""

from copy import deepcopy
from dataclasses import dataclass, field

from app.wallet.ledger.accounts import Account, AccountKind
from app.wallet.ledger.assets import LARGEST
from app.wallet.ledger.transfers import Code, Kind, Result, Transfer

OWED_TO_US = (AccountKind.CUSTODY, AccountKind.LOAN)


@dataclass
class Held:
    source: Account
    target: Account | None
    expires_at: int | None
    pending: int
    posted: int = 0
    voided: int = 0
    expired: int = 0
    closed: Code | None = None


@dataclass
class State:
    balances: dict[Account, int]
    holds: dict[str, Held] = field(default_factory=dict)


class Stop(Exception):
    def __init__(self, code: Code) -> None:
        self.code = code


class Reference:
    def __init__(self, balances: dict[Account, int]) -> None:
        self.state = State(dict(balances))
        self.answers: dict[str, tuple[Transfer, Result]] = {}

    def apply(self, transfers: list[Transfer], now: int) -> list[Result]:
        results: list[Result] = []
        rest = list(transfers)
        while rest:
            length = next(place for place, transfer in enumerate(rest) if not transfer.linked) + 1
            results += self.chain(rest[:length], now)
            rest = rest[length:]
        return results

    def chain(self, chain: list[Transfer], now: int) -> list[Result]:
        new = [transfer for transfer in chain if transfer.id not in self.answers]
        before = deepcopy(self.state)
        answers = {transfer.id: self.one(transfer, now) for transfer in new if new == chain}
        if len(chain) > 1 and new:
            first = self.first_failure(chain, now, before)
            if first is not None:
                self.state = before
                answers = {t.id: Result(t.id, Code.LINKED_FAILED) for t in new}
                if first.id in answers:
                    answers[first.id] = first
        told = [answers[t.id] if t.id in answers else self.again(t) for t in chain]
        for transfer in new:
            self.answers[transfer.id] = transfer, answers[transfer.id]
        return told

    def first_failure(self, chain: list[Transfer], now: int, before: State) -> Result | None:
        """The answer that breaks a chain: a failure or a transfer that is known already."""
        self.state = deepcopy(before)
        for transfer in chain:
            if transfer.id in self.answers:
                return self.again(transfer)
            result = self.one(transfer, now)
            if result.code is not Code.OK:
                return result
        return None

    def again(self, transfer: Transfer) -> Result:
        first, answer = self.answers[transfer.id]
        if first != transfer:
            return Result(transfer.id, Code.CONFLICT)
        return Result(transfer.id, Code.EXISTS if answer.code is Code.OK else answer.code, answer.amount)

    def one(self, transfer: Transfer, now: int) -> Result:
        before = deepcopy(self.state)
        try:
            return Result(transfer.id, Code.OK, self.do(transfer, now))
        except Stop as stop:
            self.state = before
            return Result(transfer.id, stop.code)

    def do(self, transfer: Transfer, now: int) -> int:
        if transfer.kind in (Kind.MOVE, Kind.HOLD):
            source, amount = transfer.source, transfer.amount
            assert source is not None
            assert amount is not None
            if transfer.kind is Kind.MOVE:
                assert transfer.target is not None
                self.move(source, transfer.target, amount)
                return amount
            if transfer.target is not None and transfer.target not in self.state.balances:
                raise Stop(Code.UNKNOWN_ACCOUNT)
            self.move(source, held(source), amount)
            ends = None if transfer.timeout is None else now + transfer.timeout * 1000
            self.state.holds[transfer.id] = Held(source, transfer.target, ends, amount)
            return amount
        return self.end(transfer, now)

    def end(self, transfer: Transfer, now: int) -> int:
        hold = self.state.holds.get(transfer.hold_id or "")
        if hold is None:
            raise Stop(Code.UNKNOWN_HOLD)
        if hold.closed is not None:
            raise Stop(hold.closed)
        if hold.expires_at is not None and hold.expires_at <= now:
            raise Stop(Code.EXPIRED)
        if transfer.kind is Kind.GROW:
            assert transfer.amount is not None
            if hold.pending + hold.posted + hold.voided + transfer.amount > LARGEST:
                raise Stop(Code.BALANCE_OVERFLOW)
            self.move(hold.source, held(hold.source), transfer.amount)
            hold.pending += transfer.amount
            return transfer.amount
        if transfer.kind is Kind.SHRINK:
            assert transfer.amount is not None
            if transfer.amount > hold.pending:
                raise Stop(Code.AMOUNT_EXCEEDS_PENDING)
            self.move(held(hold.source), hold.source, transfer.amount)
            hold.pending -= transfer.amount
            if not hold.pending:
                hold.closed = Code.ALREADY_VOIDED
            return transfer.amount
        if transfer.kind is Kind.VOID:
            amount = hold.pending
            self.move(held(hold.source), hold.source, amount)
            hold.voided, hold.pending, hold.closed = amount, 0, Code.ALREADY_VOIDED
            return amount
        target = transfer.target or hold.target
        if target is None or target.asset != hold.source.asset:
            raise Stop(Code.TARGET_MISMATCH)
        if hold.target is not None and transfer.target is not None and transfer.target != hold.target:
            raise Stop(Code.TARGET_MISMATCH)
        amount = transfer.amount or hold.pending
        if amount > hold.pending:
            raise Stop(Code.AMOUNT_EXCEEDS_PENDING)
        self.move(held(hold.source), target, amount)
        hold.posted += amount
        hold.pending -= amount
        if not transfer.keep and hold.pending:
            self.move(held(hold.source), hold.source, hold.pending)
            hold.voided, hold.pending = hold.pending, 0
        if not hold.pending:
            hold.closed = Code.ALREADY_POSTED
        return amount

    def move(self, source: Account, target: Account, amount: int) -> None:
        balances = self.state.balances
        if source not in balances or target not in balances:
            raise Stop(Code.UNKNOWN_ACCOUNT)
        balances[source] -= amount
        balances[target] += amount
        if source.kind in OWED_TO_US:
            if balances[source] < -LARGEST:
                raise Stop(Code.BALANCE_OVERFLOW)
        elif balances[source] < 0:
            raise Stop(Code.INSUFFICIENT_FUNDS)
        if target.kind in OWED_TO_US and balances[target] > 0:
            raise Stop(Code.INSUFFICIENT_FUNDS)
        if balances[target] > LARGEST:
            raise Stop(Code.BALANCE_OVERFLOW)

    def expire(self, now: int) -> set[str]:
        """Ends the holds whose time is over; returns their ids."""
        due = {
            id
            for id, hold in self.state.holds.items()
            if hold.closed is None and hold.expires_at is not None and hold.expires_at <= now
        }
        for id in due:
            hold = self.state.holds[id]
            self.move(held(hold.source), hold.source, hold.pending)
            hold.expired, hold.pending, hold.closed = hold.pending, 0, Code.EXPIRED
        return due


def held(account: Account) -> Account:
    return Account(account.owner, account.asset, AccountKind.HELD)
