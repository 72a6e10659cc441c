"""How orders enter the book: never without a limit price, so that what is held for them is always enough.

An order to trade at any price gets a protection price: its reference and `collar_bps` more to buy, as much
less to sell, rounded to the tick that is nearer to the reference. The reference of a stop or take-profit
order is its stop price, for at that price it becomes active; of the others it is what the caller gives (last
trade, else mark). A take-profit order that is active at once, because the market is at a better price
already, is measured by the market as well: its stop price is whatever its sender wrote.

What such an order cannot trade at once up to its protection price is cancelled (IOC, FOK). Two cannot be
entered like that, because the book keeps neither an expiry nor a pair for IOC: a stop or take-profit order
with `gtd`, and one of an OCO pair. What they cannot trade at once rests at the protection price.
"""

from dataclasses import dataclass
from typing import Final

from app.exchange.terms import MAX_VALUE, OrderType, RejectReason, Side, TimeInForce
from app.matching.names import ORDER_TYPES, SIDES, TIMES_IN_FORCE
from app.matching_client.commands import Place, Replace

NO_REFERENCE_PRICE: Final = "no_reference_price"
_BPS: Final = 10_000
_WITH_LIMIT: Final = {
    OrderType.MARKET: OrderType.LIMIT,
    OrderType.STOP: OrderType.STOP_LIMIT,
    OrderType.TAKE_PROFIT: OrderType.TAKE_PROFIT_LIMIT,
}
"""Types without a limit price → types that they enter the book as."""
_TAKE_PROFITS: Final = (OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the book is given instead of what was asked for."""

    order_type: OrderType
    price: int
    """Ticks, and the worst price at which the order can trade: what holds and risk reckon with."""
    time_in_force: TimeInForce
    reference: int | None
    """Price in ticks that limits of risk are laid around."""


def is_protected(order_type: OrderType) -> bool:
    """Whether orders that ask for this type enter the book as another one."""
    return order_type in _WITH_LIMIT


def terms(order: Place, reference: int | None, collar_bps: int, *, pair: bool = False) -> Terms | str:
    """How an order enters the book, or the reason why it cannot.

    `reference` is the last trade, else the mark, in ticks; `pair` says that the order is one of an OCO pair.
    Everything that this does not change is left to the checks of the book.
    """
    asked = ORDER_TYPES[order.order_type]
    tif = TIMES_IN_FORCE[order.time_in_force]
    base = stop_reference(asked, SIDES[order.side], order.stop_price, reference)
    entered = _WITH_LIMIT.get(asked)
    if entered is None:
        return Terms(asked, order.price, tif, base)
    if order.price != 0:
        return RejectReason.INVALID_PRICE
    if asked is not OrderType.MARKET and order.stop_price == 0:
        return RejectReason.INVALID_STOP_PRICE
    if asked is OrderType.MARKET and order.stop_price != 0:
        return RejectReason.INVALID_STOP_PRICE
    if tif is TimeInForce.GTD and asked is OrderType.MARKET:
        return RejectReason.INVALID_TIME_IN_FORCE
    if not base:
        return NO_REFERENCE_PRICE
    if tif is TimeInForce.GTC and not pair:
        tif = TimeInForce.IOC
    return Terms(entered, protected(SIDES[order.side], base, collar_bps), tif, base)


def stop_reference(kind: OrderType, side: Side, stop_price: int, reference: int | None) -> int | None:
    """The price in ticks that an order is measured by, which waits for `stop_price` unless that is 0."""
    if stop_price and reference and kind in _TAKE_PROFITS:
        return min(stop_price, reference) if side is Side.BUY else max(stop_price, reference)
    return stop_price or reference


def replaced(
    command: Replace, asked: OrderType, side: Side, collar_bps: int, reference: int | None
) -> Replace | str:
    """How a change of an open order goes to the book, or the reason why it cannot.

    `asked` is the type that was asked for, `reference` as for `terms`. Another stop price brings another
    protection price along.
    """
    if asked not in _WITH_LIMIT:
        return command
    if command.price != 0:
        return RejectReason.INVALID_PRICE
    if command.stop_price == 0:
        return command
    base = stop_reference(asked, side, command.stop_price, reference) or command.stop_price
    return command.model_copy(update={"price": protected(side, base, collar_bps)})


def protected(side: Side, reference: int, collar_bps: int) -> int:
    """The worst price for an order at any price, in ticks; at least 1, and what the book can take."""
    if side is Side.BUY:
        return min(reference * (_BPS + collar_bps) // _BPS, MAX_VALUE)
    return max(-(-reference * (_BPS - collar_bps) // _BPS), 1)
