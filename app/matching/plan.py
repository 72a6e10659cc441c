"""Decides what a group of commands does, in memory, before its transaction writes anything.

Every command gets its answer at once when that is known, else the commands of the core whose outcome is the
answer. What was counted in risk is taken back by `undo` when the group is not committed.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol, cast

from app.exchange import AdvanceTime, ChangePhase, Phase, PlaceOco, RejectReason
from app.exchange import Cancel as CoreCancel
from app.exchange import CancelAll as CoreCancelAll
from app.exchange import Command as CoreCommand
from app.exchange import Place as CorePlace
from app.exchange import Replace as CoreReplace
from app.exchange.checks import malformed
from app.instruments import INSTRUMENTS
from app.matching import protection, sessions
from app.matching.accounts import Accounts
from app.matching.books import Books
from app.matching.journal import AS_ENTERED, Entry
from app.matching.names import ORDER_TYPES, PHASES, PREVENTIONS, SIDE_NAMES, SIDES
from app.matching.tasks import Advance, Item, Lapse, Plan, Task, state_of
from app.matching_client.commands import (
    Cancel,
    CancelAfter,
    CancelAll,
    Oco,
    Place,
    Replace,
    Result,
    SetPhase,
    Status,
)
from app.orders.repository import OrderRecord
from app.risk.pretrade import NewOrder, PreTradeRisk, RiskReason
from app.wallet.fees import FeeSchedule, growth, needed
from app.wallet.ledger.assets import LARGEST
from app.wallet.orders import Amend, OrderHold

Key = tuple[str, str]
INSUFFICIENT_FUNDS: Final = "insufficient_funds"
CLIENT_ORDER_ID_REUSED: Final = "client_order_id_reused"
_LAPSE_AGAIN_MS: Final = 1000
_CONTENT: Final = tuple(name for name in Place.model_fields if name != "kind")


class References(Protocol):
    """Prices from elsewhere, for symbols in which nothing was traded yet."""

    def price(self, symbol: str) -> int | None:
        """The newest price in ticks, if there is one."""


class Planner:
    """Decides what commands do, from the books as they are and the risk state, which it changes."""

    def __init__(
        self, books: Books, risk: PreTradeRisk, accounts: Accounts, fees: FeeSchedule, references: References
    ) -> None:
        self._books = books
        self._risk = risk
        self._accounts = accounts
        self._fees = fees
        self._references = references
        self._admitted: list[int] = []
        self._amended: list[int] = []

    def plan(self, tasks: Sequence[Task], known: Mapping[Key, OrderRecord], last_order: int, at: int) -> Plan:
        """Decide on a group; `known` are the orders that have one of its client order ids already."""
        self._keys: dict[Key, Item] = {}
        self._swept: set[Key] = set()
        self._known = known
        made = self._made = Plan(at, last_order=last_order)
        self._phase_changes = any(isinstance(task, SetPhase) for task in tasks)
        for task in tasks:
            item = Item(task)
            made.items.append(item)
            self._decide(item, task)
        return made

    def refuse_funds(self, item: Item) -> None:
        """Reject an item whose funds could not be held."""
        for order in item.orders:
            self._risk.forget(order.order_id)
        if item.amend is not None:
            self._amended.remove(int(item.amend.order_id))
            self._risk.forget_change(int(item.amend.order_id))
        item.reject(INSUFFICIENT_FUNDS)

    def undo(self) -> None:
        """Take back what the newest plan counted in risk: it was not committed."""
        for order_id in self._admitted:
            self._risk.forget(order_id)
        for order_id in self._amended:
            self._risk.forget_change(order_id)
        self.committed()

    def committed(self) -> None:
        """The newest plan stands: it is not to be taken back any more."""
        self._admitted, self._amended = [], []

    def _decide(self, item: Item, task: Task) -> None:
        match task:
            case Place():
                self._place(item, task)
            case Oco():
                self._oco(item, task)
            case Cancel():
                account = self._accounts.find(task.owner)
                if account is None:
                    item.reject(RejectReason.UNKNOWN_ORDER)
                else:
                    self._enter(item, task.symbol, CoreCancel(self._made.at, task.order_id, account))
            case Replace():
                self._replace(item, task)
            case CancelAll():
                self._cancel_all(item, task.owner, task.symbol)
            case SetPhase():
                wanted = sessions.resumed(task, self._now()).phase
                self._enter(item, task.symbol, ChangePhase(self._made.at, PHASES[wanted]))
            case CancelAfter():
                self._made.deadlines[task.owner] = task.seconds and self._made.at + task.seconds * 1000
                item.result = Result(kind=task.kind, code="ok")
            case Advance():
                self._enter(item, task.symbol, AdvanceTime(self._made.at))
            case Lapse():
                self._lapse(item, task.owner)

    def _enter(self, item: Item, symbol: str, command: CoreCommand, asked: int = AS_ENTERED) -> None:
        item.entries.append((symbol, Entry(command, asked)))

    def _place(self, item: Item, command: Place) -> None:
        if self._is_repeated(item, (command,)):
            return
        order = self._record(command, None)
        item.orders = [order]
        entered = self._entered(command, order)
        if isinstance(entered, str):
            _refuse(item, entered)
            return
        self._hold(item, entered, order, None)
        self._enter(item, order.symbol, entered, _asked(order, entered))

    def _oco(self, item: Item, command: Oco) -> None:
        legs = command.first, command.second
        if self._is_repeated(item, legs):
            return
        group = self._made.last_order + 1
        item.orders = [self._record(leg, group) for leg in legs]
        entered: list[CorePlace] = []
        for leg, order in zip(legs, item.orders, strict=True):
            found = self._entered(leg, order, second=bool(entered))
            if isinstance(found, str):
                for known in entered:
                    self._risk.forget(known.order_id)
                _refuse(item, found)
                return
            entered.append(found)
        for core, order in zip(entered, item.orders, strict=True):
            self._hold(item, core, order, str(group))
        first, second = entered
        kinds = [_asked(order, core) for order, core in zip(item.orders, entered, strict=True)]
        item.entries.append((command.symbol, Entry.pair(PlaceOco(self._made.at, first, second), *kinds)))

    def _entered(self, command: Place, order: OrderRecord, *, second: bool = False) -> CorePlace | str:
        """An order as it enters its book, counted as open in risk, or why it must not."""
        phase = self._books.engines[order.symbol].book.phase
        if phase in (Phase.HALTED, Phase.CANCEL_ONLY) and not self._phase_changes:
            return phase.name.lower()
        closed = sessions.refusal(command, self._now())
        if closed is not None:
            return closed
        found = self._core(command, order)
        if isinstance(found, str):
            return found
        core, reference = found
        return self._refusal(order, core, reference, second=second) or core

    def _replace(self, item: Item, command: Replace) -> None:
        account, book = self._accounts.find(command.owner), self._books.engines[command.symbol].book
        order = book.orders.get(command.order_id)
        if account is None or order is None or order.account != account:
            # It may be of this very group; the client was not told of it yet, so that is not of interest.
            item.reject(RejectReason.UNKNOWN_ORDER)
            return
        if order.partner is not None:  # the book would refuse it, after the pair's hold had grown for it
            item.reject(RejectReason.OCO_NOT_REPLACEABLE)
            return
        terms = order.terms
        asked = self._books.asked[command.symbol].get(command.order_id, terms.order_type)
        collar = self._risk.limits.of(command.owner, command.symbol).collar_bps
        market = self._reference(command.symbol)
        changed = protection.replaced(command, asked, terms.side, collar, market)
        if isinstance(changed, str):
            item.reject(changed)
            return
        remaining = command.quantity - (terms.quantity - order.remaining)
        if remaining <= 0:
            item.reject(RejectReason.QUANTITY_NOT_ABOVE_EXECUTED)
            return
        worst = changed.price or terms.price
        # Once it is active, what it waited for says nothing about its price any more.
        stop_price = (changed.stop_price or terms.stop_price) if book.is_waiting(order) else 0
        reference = protection.stop_reference(terms.order_type, terms.side, stop_price, market)
        reason = self._risk.amend(command.order_id, command.quantity, worst, reference, self._made.at)
        if reason is not None:
            item.reject(reason)
            return
        self._amended.append(command.order_id)
        instrument, side = INSTRUMENTS[command.symbol], SIDE_NAMES[terms.side]
        extra = growth(instrument, side, (terms.price, order.remaining), (worst, remaining))
        if needed(instrument, side, worst, command.quantity, self._fees) > LARGEST or extra > LARGEST:
            self._risk.forget_change(self._amended.pop())
            item.reject(RejectReason.INVALID_QUANTITY)
            return
        item.amend = Amend(str(command.order_id), extra)
        core = CoreReplace(
            self._made.at, command.order_id, account, command.quantity, changed.price, command.stop_price
        )
        self._enter(item, command.symbol, core)

    def _cancel_all(self, item: Item, owner: str, symbol: str | None) -> None:
        account = self._accounts.find(owner) if owner else 0
        symbols = [symbol] if symbol else self._symbols_of(owner)
        for name in symbols if account is not None else ():
            # The book looks at all its orders for that: once in a group, until the owner enters another one.
            if (owner, name) not in self._swept:
                self._enter(item, name, CoreCancelAll(self._made.at, account or 0))
                if self._books.engines[name].book.phase is not Phase.HALTED and not self._phase_changes:
                    self._swept.add((owner, name))
        if not item.entries:
            item.result = Result(kind="cancel_all", code="ok")

    def _lapse(self, item: Item, owner: str) -> None:
        """Cancel what can be cancelled; the switch stays for orders of symbols that are halted."""
        account = self._accounts.find(owner)
        symbols = [] if account is None else self._symbols_of(owner)
        engines = self._books.engines
        halted = [symbol for symbol in symbols if engines[symbol].book.phase is Phase.HALTED]
        self._made.deadlines[owner] = self._made.at + _LAPSE_AGAIN_MS if halted else 0
        for symbol in symbols:
            if symbol not in halted and account is not None:
                self._enter(item, symbol, CoreCancelAll(self._made.at, account))
        if not item.entries:
            item.result = Result(kind="cancel_all", code="ok")

    def _symbols_of(self, owner: str) -> list[str]:
        """Symbols in which an owner (empty: anybody) has open orders, or has after this group."""
        if owner:  # risk has counted them, so that nobody else's need be looked at
            lots, names = self._risk.open_lots, self._books.engines
            return [name for name in names if lots(owner, name, "buy") or lots(owner, name, "sell")]
        touched = {symbol for item in self._made.items for symbol, _ in item.entries}
        return [name for name, engine in self._books.engines.items() if name in touched or engine.book.orders]

    def _is_repeated(self, item: Item, legs: Sequence[Place]) -> bool:
        """Whether an order of these client ids is there already; then the item has its answer."""
        keys = [(leg.owner, leg.client_order_id) for leg in legs]
        earlier = [self._keys[key] for key in keys if key in self._keys]
        if earlier:
            first = earlier[0]
            if len(earlier) == len(keys) and all(one is first for one in earlier) and first.task == item.task:
                item.same_as = first
            else:
                item.reject(CLIENT_ORDER_ID_REUSED)
            return True
        records = [self._known[key] for key in keys if key in self._known]
        if not records:
            self._keys.update(dict.fromkeys(keys, item))
            return False
        groups = {record.group for record in records}
        alike = len(records) == len(keys) and len(groups) == 1 and (len(legs) == 1) == (groups == {None})
        if not alike or any(not _is_of(record, leg) for record, leg in zip(records, legs, strict=True)):
            item.reject(CLIENT_ORDER_ID_REUSED)
        else:
            self._answer_again(item, records)
        return True

    def _answer_again(self, item: Item, records: Sequence[OrderRecord]) -> None:
        states = []
        for record in records:
            answer = self._books.answers.get(record.order_id)
            if record.answer_status:
                told = cast(Status, record.answer_status), record.answer_filled, record.answer_reason
            elif answer is not None:
                told = answer.status, answer.filled, answer.reason
            else:
                item.unknown = True
                return
            states.append(state_of(record, *told))
        rejected = states[0].status == "rejected"
        item.result = Result(
            kind="place" if len(states) == 1 else "oco",
            code="rejected" if rejected else "ok",
            reason=states[0].reason if rejected else "",
            orders=tuple(states),
            repeated=True,
        )

    def _record(self, command: Place, group: int | None) -> OrderRecord:
        made = self._made
        made.last_order += 1
        return OrderRecord(
            order_id=made.last_order,
            owner=command.owner,
            client_order_id=command.client_order_id,
            symbol=command.symbol,
            side=command.side,
            order_type=command.order_type,
            time_in_force=command.time_in_force,
            quantity=command.quantity,
            price=command.price,
            stop_price=command.stop_price,
            expires_at=command.expires_at,
            self_trade_prevention=command.self_trade_prevention,
            post_only=command.post_only,
            origin=command.origin,
            group=group,
            remaining=command.quantity,
            created_at=made.at,
            changed_at=made.at,
        )

    def _core(self, command: Place, order: OrderRecord) -> tuple[CorePlace, int | None] | str:
        """An order as it enters its book and the price that risk measures it by, or why it cannot enter."""
        collar = self._risk.limits.of(order.owner, order.symbol).collar_bps
        reference = self._reference(order.symbol)
        terms = protection.terms(command, reference, collar, pair=order.group is not None)
        if isinstance(terms, str):
            return terms
        core = CorePlace(
            self._made.at,
            order.order_id,
            self._number(order.owner),
            SIDES[order.side],
            terms.order_type,
            order.quantity,
            terms.price,
            order.stop_price,
            terms.time_in_force,
            order.expires_at,
            PREVENTIONS[order.self_trade_prevention],
            order.post_only,
        )
        return malformed(core, self._made.at) or (core, terms.reference)

    def _refusal(
        self, order: OrderRecord, core: CorePlace, reference: int | None, *, second: bool = False
    ) -> str | None:
        """Why an order must not enter its book; None counts it as open in risk."""
        instrument, side = INSTRUMENTS[order.symbol], SIDE_NAMES[core.side]
        if not 0 < needed(instrument, side, core.price, core.quantity, self._fees) <= LARGEST:
            return RejectReason.INVALID_QUANTITY
        asked = NewOrder(
            order_id=order.order_id,
            owner=order.owner,
            symbol=order.symbol,
            side=side,
            quantity=core.quantity,
            price=core.price,
            paired=second,
            origin="forced_close" if order.origin == "forced_close" else "user",
        )
        reason = self._risk.admit(asked, reference, self._made.at)
        if reason is None:
            self._admitted.append(order.order_id)
            self._swept -= {(order.owner, order.symbol), ("", order.symbol)}
        return reason

    def _hold(self, item: Item, core: CorePlace, order: OrderRecord, group: str | None) -> None:
        amount = needed(
            INSTRUMENTS[order.symbol], SIDE_NAMES[core.side], core.price, core.quantity, self._fees
        )
        hold = OrderHold(str(order.order_id), order.owner, order.symbol, SIDE_NAMES[core.side], amount, group)
        item.holds.append(hold)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._made.at / 1000, UTC)

    def _number(self, owner: str) -> int:
        number = self._accounts.find(owner) or self._made.accounts.get(owner)
        if number is None:
            number = self._accounts.largest + len(self._made.accounts) + 1
            self._made.accounts[owner] = number
        return number

    def _reference(self, symbol: str) -> int | None:
        """Price that others are measured by: of the last trade, else from elsewhere."""
        return self._books.engines[symbol].book.last_price or self._references.price(symbol)


def _asked(order: OrderRecord, core: CorePlace) -> int:
    kind = ORDER_TYPES[order.order_type]
    return AS_ENTERED if kind is core.order_type else 1 + kind


def _refuse(item: Item, reason: str) -> None:
    """Orders that come too fast leave no rows: else refusing them would cost as much as taking them."""
    if reason == RiskReason.ORDER_RATE:
        item.decline(reason)
    else:
        item.reject(reason)


def _is_of(record: OrderRecord, command: Place) -> bool:
    """Whether an order was placed by a command with this content."""
    return all(getattr(record, name) == getattr(command, name) for name in _CONTENT)
