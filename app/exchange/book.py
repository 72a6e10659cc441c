"""One symbol's state and the elementary changes to it, each with its event."""

from heapq import heapify, heappush
from typing import Final

from app.exchange.commands import Place
from app.exchange.events import Cancelled, Event
from app.exchange.levels import BookSide, Order, unlink
from app.exchange.terms import CancelReason, OrderType, Phase, Side, TimeInForce

_GTD: Final = TimeInForce.GTD
_BUY: Final = Side.BUY
_TAKE_PROFITS: Final = (OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT)
_SLACK: Final = 64


class OrderBook:
    """Everything that decides what the next command does; plain data, changed only by this package."""

    __slots__ = (
        "asks",
        "band_lower",
        "band_upper",
        "bids",
        "entries",
        "events",
        "expiries",
        "falling",
        "last_price",
        "orders",
        "phase",
        "rising",
        "sequence",
        "symbol",
        "time",
        "touched_high",
        "touched_low",
        "trades",
    )

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.phase = Phase.CONTINUOUS
        self.time = 0
        """Latest time that a command carried."""
        self.sequence = 0
        """Number of the last event."""
        self.trades = 0
        """Number of the last trade."""
        self.entries = 0
        """Time priority handed out last."""
        self.last_price = 0
        """Price of the last trade in ticks; 0 before the first."""
        self.band_lower = 0
        self.band_upper = 0
        self.bids = BookSide(1)
        self.asks = BookSide(-1)
        self.rising = BookSide(-1)
        """Orders that wait for the last price to reach their stop price from below."""
        self.falling = BookSide(1)
        """Orders that wait for the last price to reach their stop price from above."""
        self.orders: dict[int, Order] = {}
        """Every open order by id, in time priority."""
        self.expiries: list[tuple[int, int]] = []
        """Heap of (expires_at, order id); may name orders that are gone."""
        self.events: list[Event] = []
        """Events of the present command."""
        self.touched_low = 0
        self.touched_high = 0
        """Range of the present command's trade prices; 0 before its first trade."""

    def next_sequence(self) -> int:
        """Number for the next event."""
        self.sequence += 1
        return self.sequence

    def side_of(self, side: Side) -> BookSide:
        """Where orders of a side rest."""
        return self.bids if side is _BUY else self.asks

    def opposite_of(self, side: Side) -> BookSide:
        """What orders of a side trade with."""
        return self.asks if side is _BUY else self.bids

    def stops_of(self, terms: Place) -> BookSide:
        """Where a stop or take-profit order waits."""
        rises = (terms.side is _BUY) is not (terms.order_type in _TAKE_PROFITS)
        return self.rising if rises else self.falling

    def is_waiting(self, order: Order) -> bool:
        """Whether an open order still waits for its stop price."""
        level = order.level
        return level is not None and (level.side is self.rising or level.side is self.falling)

    def is_touched(self, terms: Place) -> bool:
        """Whether the last price is at or beyond a stop price already."""
        if self.last_price == 0:
            return False
        side = self.stops_of(terms)
        return terms.stop_price * side.sign >= self.last_price * side.sign

    def outside_band(self, price: int) -> bool:
        """Whether the band forbids a limit price."""
        return self.band_upper != 0 and not self.band_lower <= price <= self.band_upper

    def is_crossed(self) -> bool:
        """Whether the best bid is at or above the best ask."""
        bids = self.bids.keys
        asks = self.asks.keys
        return bool(bids) and bool(asks) and bids[-1] >= -asks[-1]

    def rest(self, order: Order) -> None:
        """Open an order at its limit price, behind all others there."""
        terms = order.terms
        self.entries += 1
        order.entry = self.entries
        (self.bids if terms.side is _BUY else self.asks).append(order, terms.price)
        self.orders[order.order_id] = order
        if terms.time_in_force is _GTD:
            self._expect_expiry(order)

    def wait(self, order: Order) -> None:
        """Open an order that waits for its stop price."""
        terms = order.terms
        self.entries += 1
        order.entry = self.entries
        self.stops_of(terms).append(order, terms.stop_price)
        self.orders[order.order_id] = order
        if terms.time_in_force is _GTD:
            self._expect_expiry(order)

    def remove(self, order: Order) -> None:
        """Close an order without an event."""
        unlink(order)
        del self.orders[order.order_id]

    def cancel(self, order: Order, reason: CancelReason) -> None:
        """Close an open order, and with it the other one of an OCO pair."""
        self.remove(order)
        self.cancel_unopened(order, reason)
        self.cancel_partner(order)

    def cancel_unopened(self, order: Order, reason: CancelReason) -> None:
        """Give up what is left of an order that does not rest."""
        self.events.append(
            Cancelled(
                self.symbol, self.next_sequence(), order.order_id, order.account, order.remaining, reason
            )
        )
        order.remaining = 0

    def cancel_partner(self, order: Order) -> None:
        """Cancel the other order of an OCO pair, if there is one."""
        partner = order.partner
        if partner is not None:
            order.partner = None
            partner.partner = None
            self.cancel(partner, CancelReason.OCO)

    def _expect_expiry(self, order: Order) -> None:
        if len(self.expiries) > 2 * len(self.orders) + _SLACK:
            self.rebuild_expiries()
        else:
            heappush(self.expiries, (order.terms.expires_at, order.order_id))

    def rebuild_expiries(self) -> None:
        """Make the heap of expiries anew from the open orders."""
        self.expiries = [
            (order.terms.expires_at, order.order_id)
            for order in self.orders.values()
            if order.terms.time_in_force is _GTD
        ]
        heapify(self.expiries)
