"""What the matching engine decided, in order: the one stream that ledger, orders, portfolio and risk follow.

One message carries what one group of commands did to one symbol. Sequences of a symbol rise by one from 1 and
have no gaps; the same sequence always has the same content, however often it is published. Prices are ticks,
quantities lots, times Unix milliseconds; 0 stands for "none" where a field is optional.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.events.prices import Symbol
from app.events.registry import Payload, event

Side = Literal["buy", "sell"]
OrderTypeName = Literal["limit", "market", "stop", "stop_limit", "take_profit", "take_profit_limit"]
TimeInForceName = Literal["gtc", "ioc", "fok", "gtd"]
SelfTradePreventionName = Literal["none", "cancel_taker", "cancel_maker", "cancel_both", "decrement"]
Owner = Annotated[str, Field(min_length=1, max_length=80)]
Number = Annotated[int, Field(ge=0, lt=2**53)]


class _Change(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    sequence: Number


class OrderAccepted(_Change):
    """An order was entered; its trades follow."""

    kind: Literal["accepted"] = "accepted"
    order_id: Number
    owner: Owner
    side: Side
    quantity: Number
    price: Number
    """Limit price at which it can trade; market orders have the protection price they were entered with."""


class CommandRejected(_Change):
    """A command changed nothing. A rejected `place` is the end of its order."""

    kind: Literal["rejected"] = "rejected"
    command: Literal["place", "replace", "cancel", "other"]
    order_id: Number
    owner: str
    """Empty for commands that are not about one owner."""
    reason: str


class TradeMade(_Change):
    """Two orders met. Remaining 0 is the end of that order."""

    kind: Literal["trade"] = "trade"
    trade_id: Number
    """1, 2, 3, … per symbol."""
    price: Number
    quantity: Number
    taker_side: Side
    maker_order_id: Number
    taker_order_id: Number
    maker_owner: Owner
    taker_owner: Owner
    maker_remaining: Number
    taker_remaining: Number


class OrderCancelled(_Change):
    """An order ended without being filled completely."""

    kind: Literal["cancelled"] = "cancelled"
    order_id: Number
    owner: Owner
    quantity: Number
    """Lots that were still open."""
    reason: str


class OrderReduced(_Change):
    """Self-trade prevention took part of an order; remaining 0 is its end."""

    kind: Literal["reduced"] = "reduced"
    order_id: Number
    owner: Owner
    quantity: Number
    remaining: Number


class OrderReplaced(_Change):
    """An order has other terms from now on."""

    kind: Literal["replaced"] = "replaced"
    order_id: Number
    owner: Owner
    side: Side
    quantity: Number
    """Total, with what was executed."""
    price: Number
    stop_price: Number
    remaining: Number
    kept_priority: bool


class OrderTriggered(_Change):
    """A stop or take-profit order became active."""

    kind: Literal["triggered"] = "triggered"
    order_id: Number
    owner: Owner
    last_price: Number


class MarketChanged(_Change):
    """Something about the whole book: phase, price band, auction, mass cancel, time."""

    kind: Literal["market"] = "market"
    what: Literal["phase", "price_band", "uncrossed", "mass_cancelled", "time"]
    values: dict[str, int | str]


Change = Annotated[
    OrderAccepted
    | CommandRejected
    | TradeMade
    | OrderCancelled
    | OrderReduced
    | OrderReplaced
    | OrderTriggered
    | MarketChanged,
    Field(discriminator="kind"),
]


def ended(change: Change) -> tuple[int, ...]:
    """Ids of the orders that came to their end with a change.

    Over all changes every order that ends is named once, with one exception: the rejection of a pair names
    its first order and ends the second one too, which only its keeper knows.
    """
    match change:
        case TradeMade():
            maker = (change.maker_order_id,) if change.maker_remaining == 0 else ()
            return (*maker, change.taker_order_id) if change.taker_remaining == 0 else maker
        case OrderCancelled() | OrderReduced(remaining=0) | CommandRejected(command="place"):
            return (change.order_id,)
        case _:
            return ()


class Answer(BaseModel):
    """What the sender of a `place` was told first: the state right after its own changes."""

    model_config = ConfigDict(frozen=True)

    order_id: Number
    status: Literal["open", "waiting", "partially_filled", "filled", "cancelled", "rejected"]
    """`waiting` is for a stop price; a partially filled order is still open."""
    filled: Number
    """Lots."""
    reason: str = ""
    """Why it is cancelled or rejected."""


@event("matching.output")
class MatchingOutput(Payload):
    """Changes of one symbol, `first` to `last` without gaps."""

    symbol: Symbol
    first: Number
    last: Number
    at: int = Field(ge=0)
    """Time of the commands."""
    changes: tuple[Change, ...]
    answers: tuple[Answer, ...] = ()
