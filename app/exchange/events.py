"""What a symbol's matching engine answers. (symbol, sequence) is unique and sequence has no gaps."""

from typing import NamedTuple

from app.exchange.commands import Place
from app.exchange.terms import CancelReason, Phase, RejectReason, Side


class Accepted(NamedTuple):
    """An order was entered; its trades follow. What is neither traded nor cancelled afterwards is open."""

    symbol: str
    sequence: int
    order: Place


class Rejected(NamedTuple):
    """A command changed nothing."""

    symbol: str
    sequence: int
    order_id: int
    """0 for a command that is not about one order."""
    reason: RejectReason


class Trade(NamedTuple):
    """Two orders met. In an auction, where nobody takes, the later order stands as the taker."""

    symbol: str
    sequence: int
    trade_id: int
    """1, 2, 3, … per symbol."""
    price: int
    quantity: int
    taker_side: Side
    maker_order_id: int
    taker_order_id: int
    maker_account: int
    taker_account: int
    maker_remaining: int
    taker_remaining: int


class Cancelled(NamedTuple):
    """An order is no longer open."""

    symbol: str
    sequence: int
    order_id: int
    account: int
    quantity: int
    """Lots that were still open."""
    reason: CancelReason


class Reduced(NamedTuple):
    """An order lost part of its quantity to self-trade prevention."""

    symbol: str
    sequence: int
    order_id: int
    account: int
    quantity: int
    """Lots taken away."""
    remaining: int


class Replaced(NamedTuple):
    """An order was changed; trades at its new price follow."""

    symbol: str
    sequence: int
    order: Place
    """The order's terms from now on."""
    remaining: int
    kept_priority: bool


class Triggered(NamedTuple):
    """A stop or take-profit order became active; its trades follow."""

    symbol: str
    sequence: int
    order_id: int
    account: int
    last_price: int


class MassCancelled(NamedTuple):
    """A cancel-all is done; one `Cancelled` per order came before."""

    symbol: str
    sequence: int
    account: int
    orders: int


class PriceBandSet(NamedTuple):
    """Limit prices are from now on confined to the band; 0, 0: not confined."""

    symbol: str
    sequence: int
    lower: int
    upper: int


class Uncrossed(NamedTuple):
    """An auction found its price; its trades follow."""

    symbol: str
    sequence: int
    price: int
    volume: int
    surplus: int
    """Lots that could not trade at the price: bought minus sold."""


class PhaseChanged(NamedTuple):
    """The book does something else with orders from now on."""

    symbol: str
    sequence: int
    phase: Phase


class TimeAdvanced(NamedTuple):
    """Time passed; orders that expired came before."""

    symbol: str
    sequence: int
    time: int


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
