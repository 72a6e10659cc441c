"""What can be asked of a symbol's matching engine.

Prices are ticks, quantities lots, both whole. `time` is an integer that the caller takes from its clock (any
unit, one for all commands of a symbol); the engine has none of its own. Where a field is optional, 0 means
"none". Every number fits into 64 bits; the journal refuses others.
"""

from typing import ClassVar, Final

from app.exchange.record import Record
from app.exchange.terms import OrderType, Phase, SelfTradePrevention, Side, TimeInForce


class Place(Record):
    """Enter an order."""

    __match_args__: ClassVar[tuple[str, ...]] = (
        "time",
        "order_id",
        "account",
        "side",
        "order_type",
        "quantity",
        "price",
        "stop_price",
        "time_in_force",
        "expires_at",
        "self_trade_prevention",
        "post_only",
    )
    __slots__ = __match_args__

    def __init__(
        self,
        time: int,
        order_id: int,
        account: int,
        side: Side,
        order_type: OrderType,
        quantity: int,
        price: int = 0,
        stop_price: int = 0,
        time_in_force: TimeInForce = TimeInForce.GTC,
        expires_at: int = 0,
        self_trade_prevention: SelfTradePrevention = SelfTradePrevention.NONE,
        post_only: bool = False,
    ) -> None:
        self.time: Final = time
        self.order_id: Final = order_id
        """Above 0 and unique among open orders. The caller keeps ids of finished orders from coming back."""
        self.account: Final = account
        self.side: Final = side
        self.order_type: Final = order_type
        self.quantity: Final = quantity
        self.price: Final = price
        """Limit price; 0 for market, stop and take-profit orders."""
        self.stop_price: Final = stop_price
        """Where a stop or take-profit order becomes active; 0 for the others."""
        self.time_in_force: Final = time_in_force
        self.expires_at: Final = expires_at
        """Only and always with GTD: the first moment at which the order is no longer open."""
        self.self_trade_prevention: Final = self_trade_prevention
        self.post_only: Final = post_only
        """Rejected instead of taking liquidity; limit orders only."""

    def changed(self, quantity: int, price: int, stop_price: int) -> "Place":
        """The same order with another total quantity and other prices."""
        return Place(
            self.time,
            self.order_id,
            self.account,
            self.side,
            self.order_type,
            quantity,
            price,
            stop_price,
            self.time_in_force,
            self.expires_at,
            self.self_trade_prevention,
            self.post_only,
        )


class PlaceOco(Record):
    """Enter two orders of which one cancels the other.

    Both have one account, side and quantity, are GTC or GTD, at most one is a plain limit order, and neither
    may trade or be triggered on entry.
    """

    __match_args__: ClassVar[tuple[str, ...]] = ("time", "first", "second")
    __slots__ = __match_args__

    def __init__(
        self,
        time: int,
        first: Place,
        second: Place,
    ) -> None:
        self.time: Final = time
        self.first: Final = first
        self.second: Final = second


class Cancel(Record):
    """Take an open order out."""

    __match_args__: ClassVar[tuple[str, ...]] = ("time", "order_id", "account")
    __slots__ = __match_args__

    def __init__(
        self,
        time: int,
        order_id: int,
        account: int,
    ) -> None:
        self.time: Final = time
        self.order_id: Final = order_id
        self.account: Final = account


class Replace(Record):
    """Change an open order. It keeps its priority only when it shrinks at the same prices."""

    __match_args__: ClassVar[tuple[str, ...]] = (
        "time",
        "order_id",
        "account",
        "quantity",
        "price",
        "stop_price",
    )
    __slots__ = __match_args__

    def __init__(
        self,
        time: int,
        order_id: int,
        account: int,
        quantity: int,
        price: int = 0,
        stop_price: int = 0,
    ) -> None:
        self.time: Final = time
        self.order_id: Final = order_id
        self.account: Final = account
        self.quantity: Final = quantity
        """New total including what was executed already."""
        self.price: Final = price
        """New limit price; 0 keeps the price."""
        self.stop_price: Final = stop_price
        """New stop price of an order that waits for it; 0 keeps the price."""


class CancelAll(Record):
    """Take every open order of an account out, oldest first; account 0 means all accounts."""

    __match_args__: ClassVar[tuple[str, ...]] = ("time", "account")
    __slots__ = __match_args__

    def __init__(
        self,
        time: int,
        account: int = 0,
    ) -> None:
        self.time: Final = time
        self.account: Final = account


class SetPriceBand(Record):
    """Allow limit prices from `lower` to `upper` only, and cancel what rests outside; 0, 0 lifts the band."""

    __match_args__: ClassVar[tuple[str, ...]] = ("time", "lower", "upper")
    __slots__ = __match_args__

    def __init__(
        self,
        time: int,
        lower: int,
        upper: int,
    ) -> None:
        self.time: Final = time
        self.lower: Final = lower
        self.upper: Final = upper


class ChangePhase(Record):
    """Halt, resume, open an auction. On the way to CONTINUOUS a crossed book uncrosses at one price."""

    __match_args__: ClassVar[tuple[str, ...]] = ("time", "phase", "reference_price")
    __slots__ = __match_args__

    def __init__(
        self,
        time: int,
        phase: Phase,
        reference_price: int = 0,
    ) -> None:
        self.time: Final = time
        self.phase: Final = phase
        self.reference_price: Final = reference_price
        """Decides between equally good auction prices; 0: the last price."""


class AdvanceTime(Record):
    """Let time pass, so that orders expire on a quiet symbol."""

    __match_args__: ClassVar[tuple[str, ...]] = ("time",)
    __slots__ = __match_args__

    def __init__(
        self,
        time: int,
    ) -> None:
        self.time: Final = time


Command = Place | PlaceOco | Cancel | Replace | CancelAll | SetPriceBand | ChangePhase | AdvanceTime
