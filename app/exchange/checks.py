"""Whether an order makes sense by itself, whatever the book holds."""

from typing import Final

from app.exchange.commands import Place
from app.exchange.terms import MAX_VALUE, OrderType, RejectReason, TimeInForce

LIMIT: Final = OrderType.LIMIT
MARKET: Final = OrderType.MARKET
STOP_LIMIT: Final = OrderType.STOP_LIMIT
TAKE_PROFIT_LIMIT: Final = OrderType.TAKE_PROFIT_LIMIT
GTC: Final = TimeInForce.GTC
IOC: Final = TimeInForce.IOC
FOK: Final = TimeInForce.FOK
GTD: Final = TimeInForce.GTD


def has_limit(order_type: OrderType) -> bool:
    """Whether orders of this type carry a limit price."""
    return order_type is LIMIT or order_type is STOP_LIMIT or order_type is TAKE_PROFIT_LIMIT


def waits(order_type: OrderType) -> bool:
    """Whether orders of this type wait for a stop price."""
    return order_type is not LIMIT and order_type is not MARKET


def malformed(order: Place, now: int) -> RejectReason | None:
    """Why an order cannot be entered at `now`; None when nothing speaks against it."""
    if order.order_id <= 0 or order.account <= 0:
        return RejectReason.INVALID_ID
    if not 0 < order.quantity <= MAX_VALUE:
        return RejectReason.INVALID_QUANTITY
    order_type = order.order_type
    tif = order.time_in_force
    price = order.price
    if order_type is LIMIT:
        if not 0 < price <= MAX_VALUE:
            return RejectReason.INVALID_PRICE
        if order.stop_price != 0:
            return RejectReason.INVALID_STOP_PRICE
        if order.post_only and (tif is IOC or tif is FOK):
            return RejectReason.POST_ONLY_NOT_ALLOWED
    else:
        reason = _malformed_other(order)
        if reason is not None:
            return reason
    if tif is GTD:
        if order.expires_at <= 0:
            return RejectReason.INVALID_EXPIRY
        if order.expires_at <= now:
            return RejectReason.ALREADY_EXPIRED
    elif order.expires_at != 0:
        return RejectReason.INVALID_EXPIRY
    return None


def _malformed_other(order: Place) -> RejectReason | None:
    """Checks of all types but plain limit orders."""
    order_type = order.order_type
    if order.post_only:
        return RejectReason.POST_ONLY_NOT_ALLOWED
    if has_limit(order_type):
        if not 0 < order.price <= MAX_VALUE:
            return RejectReason.INVALID_PRICE
    elif order.price != 0:
        return RejectReason.INVALID_PRICE
    immediate = order.time_in_force is IOC or order.time_in_force is FOK
    if order_type is MARKET:
        if order.stop_price != 0:
            return RejectReason.INVALID_STOP_PRICE
        return None if immediate else RejectReason.INVALID_TIME_IN_FORCE
    if not 0 < order.stop_price <= MAX_VALUE:
        return RejectReason.INVALID_STOP_PRICE
    if immediate and not has_limit(order_type):
        return RejectReason.INVALID_TIME_IN_FORCE
    return None
