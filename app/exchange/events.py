"""What a symbol's matching engine answers. (symbol, sequence) is unique and sequence has no gaps."""

from typing import ClassVar, Final

from app.exchange.commands import Place
from app.exchange.record import Record
from app.exchange.terms import CancelReason, Phase, RejectReason, Side


class Accepted(Record):
    """An order was entered; its trades follow. What is neither traded nor cancelled afterwards is open."""

    __match_args__: ClassVar[tuple[str, ...]] = ("symbol", "sequence", "order")
    __slots__ = __match_args__

    def __init__(
        self,
        symbol: str,
        sequence: int,
        order: Place,
    ) -> None:
        self.symbol: Final = symbol
        self.sequence: Final = sequence
        self.order: Final = order


class Rejected(Record):
    """A command changed nothing."""

    __match_args__: ClassVar[tuple[str, ...]] = ("symbol", "sequence", "order_id", "reason")
    __slots__ = __match_args__

    def __init__(
        self,
        symbol: str,
        sequence: int,
        order_id: int,
        reason: RejectReason,
    ) -> None:
        self.symbol: Final = symbol
        self.sequence: Final = sequence
        self.order_id: Final = order_id
        """0 for a command that is not about one order."""
        self.reason: Final = reason


class Trade(Record):
    """Two orders met. In an auction, where nobody takes, the later order stands as the taker."""

    __match_args__: ClassVar[tuple[str, ...]] = (
        "symbol",
        "sequence",
        "trade_id",
        "price",
        "quantity",
        "taker_side",
        "maker_order_id",
        "taker_order_id",
        "maker_account",
        "taker_account",
        "maker_remaining",
        "taker_remaining",
    )
    __slots__ = __match_args__

    def __init__(
        self,
        symbol: str,
        sequence: int,
        trade_id: int,
        price: int,
        quantity: int,
        taker_side: Side,
        maker_order_id: int,
        taker_order_id: int,
        maker_account: int,
        taker_account: int,
        maker_remaining: int,
        taker_remaining: int,
    ) -> None:
        self.symbol: Final = symbol
        self.sequence: Final = sequence
        self.trade_id: Final = trade_id
        """1, 2, 3, … per symbol."""
        self.price: Final = price
        self.quantity: Final = quantity
        self.taker_side: Final = taker_side
        self.maker_order_id: Final = maker_order_id
        self.taker_order_id: Final = taker_order_id
        self.maker_account: Final = maker_account
        self.taker_account: Final = taker_account
        self.maker_remaining: Final = maker_remaining
        self.taker_remaining: Final = taker_remaining


class Cancelled(Record):
    """An order is no longer open."""

    __match_args__: ClassVar[tuple[str, ...]] = (
        "symbol",
        "sequence",
        "order_id",
        "account",
        "quantity",
        "reason",
    )
    __slots__ = __match_args__

    def __init__(
        self,
        symbol: str,
        sequence: int,
        order_id: int,
        account: int,
        quantity: int,
        reason: CancelReason,
    ) -> None:
        self.symbol: Final = symbol
        self.sequence: Final = sequence
        self.order_id: Final = order_id
        self.account: Final = account
        self.quantity: Final = quantity
        """Lots that were still open."""
        self.reason: Final = reason


class Reduced(Record):
    """An order lost part of its quantity to self-trade prevention."""

    __match_args__: ClassVar[tuple[str, ...]] = (
        "symbol",
        "sequence",
        "order_id",
        "account",
        "quantity",
        "remaining",
    )
    __slots__ = __match_args__

    def __init__(
        self,
        symbol: str,
        sequence: int,
        order_id: int,
        account: int,
        quantity: int,
        remaining: int,
    ) -> None:
        self.symbol: Final = symbol
        self.sequence: Final = sequence
        self.order_id: Final = order_id
        self.account: Final = account
        self.quantity: Final = quantity
        """Lots taken away."""
        self.remaining: Final = remaining


class Replaced(Record):
    """An order was changed; trades at its new price follow."""

    __match_args__: ClassVar[tuple[str, ...]] = ("symbol", "sequence", "order", "remaining", "kept_priority")
    __slots__ = __match_args__

    def __init__(
        self,
        symbol: str,
        sequence: int,
        order: Place,
        remaining: int,
        kept_priority: bool,
    ) -> None:
        self.symbol: Final = symbol
        self.sequence: Final = sequence
        self.order: Final = order
        """The order's terms from now on."""
        self.remaining: Final = remaining
        self.kept_priority: Final = kept_priority


class Triggered(Record):
    """A stop or take-profit order became active; its trades follow."""

    __match_args__: ClassVar[tuple[str, ...]] = ("symbol", "sequence", "order_id", "account", "last_price")
    __slots__ = __match_args__

    def __init__(
        self,
        symbol: str,
        sequence: int,
        order_id: int,
        account: int,
        last_price: int,
    ) -> None:
        self.symbol: Final = symbol
        self.sequence: Final = sequence
        self.order_id: Final = order_id
        self.account: Final = account
        self.last_price: Final = last_price


class MassCancelled(Record):
    """A cancel-all is done; one `Cancelled` per order came before."""

    __match_args__: ClassVar[tuple[str, ...]] = ("symbol", "sequence", "account", "orders")
    __slots__ = __match_args__

    def __init__(
        self,
        symbol: str,
        sequence: int,
        account: int,
        orders: int,
    ) -> None:
        self.symbol: Final = symbol
        self.sequence: Final = sequence
        self.account: Final = account
        self.orders: Final = orders


class PriceBandSet(Record):
    """Limit prices are from now on confined to the band; 0, 0: not confined."""

    __match_args__: ClassVar[tuple[str, ...]] = ("symbol", "sequence", "lower", "upper")
    __slots__ = __match_args__

    def __init__(
        self,
        symbol: str,
        sequence: int,
        lower: int,
        upper: int,
    ) -> None:
        self.symbol: Final = symbol
        self.sequence: Final = sequence
        self.lower: Final = lower
        self.upper: Final = upper


class Uncrossed(Record):
    """An auction found its price; its trades follow."""

    __match_args__: ClassVar[tuple[str, ...]] = ("symbol", "sequence", "price", "volume", "surplus")
    __slots__ = __match_args__

    def __init__(
        self,
        symbol: str,
        sequence: int,
        price: int,
        volume: int,
        surplus: int,
    ) -> None:
        self.symbol: Final = symbol
        self.sequence: Final = sequence
        self.price: Final = price
        self.volume: Final = volume
        self.surplus: Final = surplus
        """Lots that could not trade at the price: bought minus sold."""


class PhaseChanged(Record):
    """The book does something else with orders from now on."""

    __match_args__: ClassVar[tuple[str, ...]] = ("symbol", "sequence", "phase")
    __slots__ = __match_args__

    def __init__(
        self,
        symbol: str,
        sequence: int,
        phase: Phase,
    ) -> None:
        self.symbol: Final = symbol
        self.sequence: Final = sequence
        self.phase: Final = phase


class TimeAdvanced(Record):
    """Time passed; orders that expired came before."""

    __match_args__: ClassVar[tuple[str, ...]] = ("symbol", "sequence", "time")
    __slots__ = __match_args__

    def __init__(
        self,
        symbol: str,
        sequence: int,
        time: int,
    ) -> None:
        self.symbol: Final = symbol
        self.sequence: Final = sequence
        self.time: Final = time


Event = (
    Accepted
    | Rejected
    | Trade
    | Cancelled
    | Reduced
    | Replaced
    | Triggered
    | MassCancelled
    | PriceBandSet
    | Uncrossed
    | PhaseChanged
    | TimeAdvanced
)
