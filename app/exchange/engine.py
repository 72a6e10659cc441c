"""Commands in, events out."""

from heapq import heappop
from typing import Final

from app.exchange.auction import uncross
from app.exchange.book import OrderBook
from app.exchange.checks import FOK, IOC, LIMIT, has_limit, malformed, waits
from app.exchange.commands import (
    AdvanceTime,
    Cancel,
    CancelAll,
    ChangePhase,
    Command,
    Place,
    PlaceOco,
    Replace,
    SetPriceBand,
)
from app.exchange.events import (
    Accepted,
    Event,
    MassCancelled,
    PhaseChanged,
    PriceBandSet,
    Rejected,
    Replaced,
    TimeAdvanced,
)
from app.exchange.levels import Order
from app.exchange.matching import enter, would_take
from app.exchange.snapshot import digest, dump, load
from app.exchange.stops import activate, activate_touched
from app.exchange.terms import MAX_VALUE, CancelReason, Phase, RejectReason

_CONTINUOUS: Final = Phase.CONTINUOUS
_AUCTION: Final = Phase.AUCTION
_HALTED: Final = Phase.HALTED


class MatchingEngine:
    """The exchange of one symbol: deterministic, without clock, I/O or randomness.

    The same commands always give the same events and the same state. A command whose time is before that of
    an earlier one counts as if it came at that earlier time.
    """

    __slots__ = ("book",)

    def __init__(self, symbol: str) -> None:
        self.book = OrderBook(symbol)

    def apply(self, command: Command) -> list[Event]:
        """Carry a command out and return what happened, at least one event."""
        book = self.book
        events: list[Event] = []
        book.events = events
        book.touched_low = 0
        book.touched_high = 0
        time = command.time
        if time > book.time:
            book.time = time
            if book.expiries:
                self._expire()
        if isinstance(command, Place):
            self._place(command)
        elif isinstance(command, Cancel):
            self._cancel(command)
        elif isinstance(command, Replace):
            self._replace(command)
        else:
            self._apply_rare(command)
        if book.touched_high != 0 and (book.rising.keys or book.falling.keys):
            activate_touched(book)
        return events

    def snapshot(self) -> bytes:
        """The whole state, in one canonical form."""
        return dump(self.book)

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot. It is read and checked completely before anything changes.

        Raises:
            SnapshotError: it is damaged, inconsistent, or of another symbol.
        """
        self.book = load(snapshot, self.book.symbol)

    def state_hash(self) -> str:
        """Hexadecimal digest of the state; equal exactly when the states are."""
        return digest(self.book)

    def _apply_rare(self, command: PlaceOco | CancelAll | SetPriceBand | ChangePhase | AdvanceTime) -> None:
        if isinstance(command, PlaceOco):
            self._place_oco(command)
        elif isinstance(command, CancelAll):
            self._cancel_all(command)
        elif isinstance(command, SetPriceBand):
            self._set_price_band(command)
        elif isinstance(command, ChangePhase):
            self._change_phase(command)
        else:
            book = self.book
            book.events.append(TimeAdvanced(book.symbol, book.next_sequence(), book.time))

    def _reject(self, order_id: int, reason: RejectReason) -> None:
        book = self.book
        book.events.append(Rejected(book.symbol, book.next_sequence(), order_id, reason))

    def _expire(self) -> None:
        book = self.book
        expiries = book.expiries
        while expiries and expiries[0][0] <= book.time:
            expires_at, order_id = heappop(expiries)
            order = book.orders.get(order_id)
            if order is not None and order.terms.expires_at == expires_at:
                book.cancel(order, CancelReason.EXPIRED)

    def _refusal(self, command: Place) -> RejectReason | None:
        """Why an order cannot be entered now."""
        book = self.book
        reason = malformed(command, book.time)
        if reason is not None:
            return reason
        if command.order_id in book.orders:
            return RejectReason.DUPLICATE_ORDER_ID
        if book.phase is not _CONTINUOUS:
            if book.phase is not _AUCTION:
                return _forbidding(book.phase)
            if command.order_type is not LIMIT or command.time_in_force in (IOC, FOK):
                return RejectReason.NOT_IN_AUCTION
        if book.band_upper != 0 and has_limit(command.order_type) and book.outside_band(command.price):
            return RejectReason.PRICE_OUTSIDE_BAND
        if command.post_only and would_take(book, command.side, command.price):
            return RejectReason.POST_ONLY_WOULD_TAKE
        return None

    def _accept(self, command: Place) -> Order:
        book = self.book
        book.sequence = sequence = book.sequence + 1
        book.events.append(Accepted(book.symbol, sequence, command))
        return Order(command, command.order_id, command.account, command.quantity)

    def _place(self, command: Place) -> None:
        reason = self._refusal(command)
        if reason is not None:
            self._reject(command.order_id, reason)
            return
        order = self._accept(command)
        if command.stop_price == 0:
            enter(self.book, order)
        elif self.book.is_touched(command):
            activate(self.book, order)
        else:
            self.book.wait(order)

    def _place_oco(self, command: PlaceOco) -> None:
        book = self.book
        first, second = command.first, command.second
        reason = _oco_mismatch(first, second) or self._refusal(first) or self._refusal(second)
        if reason is None and book.phase is not _CONTINUOUS:
            reason = RejectReason.NOT_IN_AUCTION
        if reason is None and (self._would_execute(first) or self._would_execute(second)):
            reason = RejectReason.OCO_WOULD_EXECUTE
        if reason is not None:
            self._reject(first.order_id, reason)
            return
        orders = self._accept(first), self._accept(second)
        orders[0].partner, orders[1].partner = orders[1], orders[0]
        for order in orders:
            if waits(order.terms.order_type):
                book.wait(order)
            else:
                book.rest(order)

    def _would_execute(self, command: Place) -> bool:
        if waits(command.order_type):
            return self.book.is_touched(command)
        return would_take(self.book, command.side, command.price)

    def _cancel(self, command: Cancel) -> None:
        book = self.book
        if book.phase is _HALTED:
            self._reject(command.order_id, RejectReason.HALTED)
            return
        order = book.orders.get(command.order_id)
        if order is None or order.account != command.account:
            self._reject(command.order_id, RejectReason.UNKNOWN_ORDER)
        else:
            book.cancel(order, CancelReason.REQUESTED)

    def _cancel_all(self, command: CancelAll) -> None:
        book = self.book
        if book.phase is _HALTED:
            self._reject(0, RejectReason.HALTED)
            return
        account = command.account
        count = len(book.orders)
        for order in [order for order in book.orders.values() if account in (0, order.account)]:
            if order.remaining:
                book.cancel(order, CancelReason.MASS_CANCEL)
        count -= len(book.orders)
        book.events.append(MassCancelled(book.symbol, book.next_sequence(), account, count))

    def _replace(self, command: Replace) -> None:
        book = self.book
        order = book.orders.get(command.order_id)
        if order is None or order.account != command.account:
            self._reject(command.order_id, RejectReason.UNKNOWN_ORDER)
            return
        before = order.terms
        waiting = book.is_waiting(order)
        reason = self._replace_refusal(command, order, waiting)
        if reason is not None:
            self._reject(command.order_id, reason)
            return
        terms = before.changed(
            command.quantity, command.price or before.price, command.stop_price or before.stop_price
        )
        shrinks = command.quantity <= before.quantity
        keeps = shrinks and terms.price == before.price and terms.stop_price == before.stop_price
        remaining = order.remaining + command.quantity - before.quantity
        if keeps:
            if order.level is not None:
                order.level.quantity += remaining - order.remaining
        else:
            book.remove(order)
        order.terms = terms
        order.remaining = remaining
        book.events.append(Replaced(book.symbol, book.next_sequence(), terms, remaining, keeps))
        if keeps:
            return
        if not waiting:
            enter(book, order)
        elif book.is_touched(terms):
            activate(book, order)
        else:
            book.wait(order)

    def _replace_refusal(self, command: Replace, order: Order, waiting: bool) -> RejectReason | None:
        book = self.book
        terms = order.terms
        if book.phase is not _CONTINUOUS and (book.phase is not _AUCTION or waiting):
            return RejectReason.NOT_IN_AUCTION if book.phase is _AUCTION else _forbidding(book.phase)
        if order.partner is not None:
            return RejectReason.OCO_NOT_REPLACEABLE
        if not 0 < command.quantity <= MAX_VALUE:
            return RejectReason.INVALID_QUANTITY
        if command.quantity <= terms.quantity - order.remaining:
            return RejectReason.QUANTITY_NOT_ABOVE_EXECUTED
        if command.price != 0:
            if not 0 < command.price <= MAX_VALUE or not has_limit(terms.order_type):
                return RejectReason.INVALID_PRICE
            if book.outside_band(command.price):
                return RejectReason.PRICE_OUTSIDE_BAND
        if command.stop_price != 0 and not (waiting and 0 < command.stop_price <= MAX_VALUE):
            return RejectReason.INVALID_STOP_PRICE
        if terms.post_only and would_take(book, terms.side, command.price or terms.price):
            return RejectReason.POST_ONLY_WOULD_TAKE
        return None

    def _set_price_band(self, command: SetPriceBand) -> None:
        book = self.book
        lower, upper = command.lower, command.upper
        if (lower, upper) != (0, 0) and not 0 < lower <= upper <= MAX_VALUE:
            self._reject(0, RejectReason.INVALID_PRICE_BAND)
            return
        book.band_lower, book.band_upper = lower, upper
        book.events.append(PriceBandSet(book.symbol, book.next_sequence(), lower, upper))
        for order in list(book.orders.values()):
            if order.remaining and not book.is_waiting(order) and book.outside_band(order.terms.price):
                book.cancel(order, CancelReason.PRICE_BAND)

    def _change_phase(self, command: ChangePhase) -> None:
        book = self.book
        if command.phase is book.phase:
            self._reject(0, RejectReason.PHASE_UNCHANGED)
            return
        if not 0 <= command.reference_price <= MAX_VALUE:
            self._reject(0, RejectReason.INVALID_PRICE)
            return
        if command.phase is _CONTINUOUS:
            uncross(book, command.reference_price)
        book.phase = command.phase
        book.events.append(PhaseChanged(book.symbol, book.next_sequence(), command.phase))


def _forbidding(phase: Phase) -> RejectReason:
    return RejectReason.HALTED if phase is _HALTED else RejectReason.CANCEL_ONLY


def _oco_mismatch(first: Place, second: Place) -> RejectReason | None:
    """Why two orders cannot be a pair."""
    for order in (first, second):
        if order.time_in_force in (IOC, FOK):
            return RejectReason.INVALID_TIME_IN_FORCE
    alike = (first.account, first.side, first.quantity) == (second.account, second.side, second.quantity)
    if not alike or first.order_id == second.order_id:
        return RejectReason.OCO_MISMATCH
    if not waits(first.order_type) and not waits(second.order_type):
        return RejectReason.OCO_MISMATCH
    return None
