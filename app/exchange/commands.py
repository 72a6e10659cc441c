"""What can be asked of a symbol's matching engine.

Prices are ticks, quantities lots, both whole. `time` is an integer that the caller takes from its clock (any
unit, one for all commands of a symbol); the engine has none of its own. Where a field is optional, 0 means
"none".
"""

from typing import NamedTuple

from app.exchange.terms import OrderType, Phase, SelfTradePrevention, Side, TimeInForce


class Place(NamedTuple):
    """Enter an order."""

    time: int
    order_id: int
    """Above 0 and unique among open orders. The caller keeps ids of finished orders from coming back."""
    account: int
    side: Side
    order_type: OrderType
    quantity: int
    price: int = 0
    """Limit price; 0 for market, stop and take-profit orders."""
    stop_price: int = 0
    """Where a stop or take-profit order becomes active; 0 for the others."""
    time_in_force: TimeInForce = TimeInForce.GTC
    expires_at: int = 0
    """Only and always with GTD: the first moment at which the order is no longer open."""
    self_trade_prevention: SelfTradePrevention = SelfTradePrevention.NONE
    post_only: bool = False
    """Rejected instead of taking liquidity; limit orders only."""


class PlaceOco(NamedTuple):
    """Enter two orders of which one cancels the other.

    Both have one account, side and quantity, are GTC or GTD, at most one is a plain limit order, and neither
    may trade or be triggered on entry.
    """

    time: int
    first: Place
    second: Place


class Cancel(NamedTuple):
    """Take an open order out."""

    time: int
    order_id: int
    account: int


class Replace(NamedTuple):
    """Change an open order. It keeps its priority only when it shrinks at the same prices."""

    time: int
    order_id: int
    account: int
    quantity: int
    """New total including what was executed already."""
    price: int = 0
    """New limit price; 0 keeps the price."""
    stop_price: int = 0
    """New stop price of an order that waits for it; 0 keeps the price."""


class CancelAll(NamedTuple):
    """Take every open order of an account out, oldest first; account 0 means all accounts."""

    time: int
    account: int = 0


class SetPriceBand(NamedTuple):
    """Allow limit prices from `lower` to `upper` only, and cancel what rests outside; 0, 0 lifts the band."""

    time: int
    lower: int
    upper: int


class ChangePhase(NamedTuple):
    """Halt, resume, open an auction. On the way to CONTINUOUS a crossed book uncrosses at one price."""

    time: int
    phase: Phase
    reference_price: int = 0
    """Decides between equally good auction prices; 0: the last price."""


class AdvanceTime(NamedTuple):
    """Let time pass, so that orders expire on a quiet symbol."""

    time: int


Command = Place | PlaceOco | Cancel | Replace | CancelAll | SetPriceBand | ChangePhase | AdvanceTime
