"""What the endpoints of orders take and answer: decimal strings, times in UTC."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.events.matching import OrderTypeName, SelfTradePreventionName, Side, TimeInForceName
from app.exchange.terms import MAX_VALUE
from app.instruments import INSTRUMENTS
from app.orders import terms
from app.orders.changes import Fill
from app.orders.repository import OrderRecord

LARGEST_BATCH = 100
"""Orders of one request."""
LONGEST_CANCEL_AFTER = 86_400
"""Seconds; a day."""
OrderStatus = Literal["pending", "open", "waiting", "partially_filled", "filled", "cancelled", "rejected"]
Number = Annotated[str, Field(description="Decimal, exact.", examples=["64250.00"])]
Given = Annotated[
    str,
    Field(
        pattern=r"^[0-9]{1,20}(\.[0-9]{1,12})?$", description="Decimal, as a string.", examples=["64250.00"]
    ),
]
ClientOrderId = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9._:-]{1,64}$",
        description="Made by the client: the same request again gets the first answer.",
        examples=["a1b2-17"],
    ),
]
SymbolText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=20,
        pattern=r"^[A-Z0-9-]+$",
        examples=["BTC-USD"],
        json_schema_extra={"enum": list(INSTRUMENTS)},
    ),
]
OrderId = Annotated[int, Field(ge=1, le=MAX_VALUE)]
Seconds = Annotated[int, Field(ge=0, le=LONGEST_CANCEL_AFTER)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Terms(_Request):
    """How an order is priced and how long it lives."""

    client_order_id: ClientOrderId | None = None
    order_type: OrderTypeName
    price: Given | None = None
    stop_price: Given | None = None
    time_in_force: TimeInForceName = "gtc"
    expires_at: AwareDatetime | None = Field(default=None, description="With `gtd` only.")
    self_trade_prevention: SelfTradePreventionName = "cancel_taker"


class PlaceBody(Terms):
    """An order to enter."""

    symbol: SymbolText
    side: Side
    quantity: Given
    post_only: bool = Field(default=False, description="Rejected instead of taking liquidity.")


class OcoBody(_Request):
    """Two orders of which one cancels the other."""

    symbol: SymbolText
    side: Side
    quantity: Given
    first: Terms
    second: Terms


class BatchBody(_Request):
    """Orders that are independent of each other."""

    orders: list[PlaceBody] = Field(min_length=1, max_length=LARGEST_BATCH)


class ReplaceBody(_Request):
    """New terms of an open order; prices that are left out stay."""

    quantity: Given = Field(description="New total, with what was executed already.")
    price: Given | None = None
    stop_price: Given | None = None


class CancelAfterBody(_Request):
    """When all orders are to be cancelled, unless this is asked for again before."""

    seconds: Seconds = Field(description="0 switches it off.")


class PlacedView(BaseModel):
    """An order as it was right after it was entered."""

    order_id: str
    client_order_id: str
    symbol: str
    side: Side
    order_type: OrderTypeName
    time_in_force: TimeInForceName
    quantity: Number
    price: Number | None
    stop_price: Number | None
    status: OrderStatus
    filled: Number
    reason: str = Field(description="Why it is cancelled; else empty.")
    created_at: datetime


class PairView(BaseModel):
    """Both orders of a pair."""

    orders: list[PlacedView]


class StateView(BaseModel):
    """Where an order stands after a command."""

    order_id: str
    client_order_id: str
    symbol: str
    status: OrderStatus
    filled: Number
    remaining: Number
    reason: str


class ItemView(BaseModel):
    """The answer for one order of a batch: the order, or a problem document."""

    client_order_id: str
    replayed: bool = False
    order: PlacedView | None = None
    problem: dict[str, Any] | None = None


class BatchView(BaseModel):
    """Answers in the order of the request."""

    results: list[ItemView]


class CancelAfterView(BaseModel):
    """What the switch is set to."""

    seconds: int
    cancel_at: datetime | None = Field(description="Null when it is off.")


class OrderView(BaseModel):
    """An order as the history has it, a moment behind the engine."""

    order_id: str
    client_order_id: str
    symbol: str
    side: Side
    order_type: OrderTypeName
    time_in_force: TimeInForceName
    quantity: Number
    price: Number | None
    stop_price: Number | None
    expires_at: datetime | None
    self_trade_prevention: SelfTradePreventionName
    post_only: bool
    origin: str = Field(description="`user`, or `forced_close`.")
    group: str | None = Field(description="Of a pair: the id of its first order.")
    status: OrderStatus = Field(
        description="`pending`: entered, its first changes have not come yet; `waiting`: for its stop price."
    )
    filled: Number
    remaining: Number
    filled_value: Number = Field(description="Price times quantity of all fills, in the quote currency.")
    average_price: Number | None
    reason: str = Field(description="Why it is cancelled or rejected.")
    created_at: datetime
    changed_at: datetime

    @classmethod
    def of(cls, order: OrderRecord) -> "OrderView":
        """From its row."""
        instrument = INSTRUMENTS[order.symbol]
        values: dict[str, Any] = {
            "order_id": str(order.order_id),
            "client_order_id": order.client_order_id,
            "symbol": order.symbol,
            "side": order.side,
            "order_type": order.order_type,
            "time_in_force": order.time_in_force,
            "quantity": terms.quantity_text(instrument, order.quantity),
            "price": terms.price_text(instrument, order.price),
            "stop_price": terms.price_text(instrument, order.stop_price),
            "expires_at": terms.moment(order.expires_at) if order.expires_at else None,
            "self_trade_prevention": order.self_trade_prevention,
            "post_only": order.post_only,
            "origin": order.origin,
            "group": None if order.group is None else str(order.group),
            "status": order.status,
            "filled": terms.quantity_text(instrument, order.filled),
            "remaining": terms.quantity_text(instrument, order.remaining),
            "filled_value": terms.value_text(instrument, order.cost),
            "average_price": terms.average_text(instrument, order.cost, order.filled),
            "reason": order.reason,
            "created_at": terms.moment(order.created_at),
            "changed_at": terms.moment(order.changed_at),
        }
        return cls.model_construct(**values)


class OrderPage(BaseModel):
    """Orders, the newest first."""

    orders: list[OrderView]
    next: str | None = Field(description="Give it as `before` to get the page after; null at the end.")


class FillView(BaseModel):
    """What an order had of a trade."""

    order_id: str
    trade_id: str
    symbol: str
    side: Side
    price: Number
    quantity: Number
    value: Number = Field(description="Price times quantity, in the quote currency.")
    liquidity: Literal["maker", "taker"]
    time: datetime

    @classmethod
    def of(cls, fill: Fill) -> "FillView":
        """From its row."""
        instrument = INSTRUMENTS[fill.symbol]
        values: dict[str, Any] = {
            "order_id": str(fill.order_id),
            "trade_id": str(fill.trade_id),
            "symbol": fill.symbol,
            "side": fill.side,
            "price": terms.price_text(instrument, fill.price),
            "quantity": terms.quantity_text(instrument, fill.quantity),
            "value": terms.value_text(instrument, fill.price * fill.quantity),
            "liquidity": "maker" if fill.maker else "taker",
            "time": terms.moment(fill.at),
        }
        return cls.model_construct(**values)


class FillPage(BaseModel):
    """Fills, the newest first."""

    fills: list[FillView]
    next: str | None = Field(description="Give it as `before` to get the page after; null at the end.")


class LevelView(BaseModel):
    """All that rests at one price."""

    price: Number
    quantity: Number


class BookView(BaseModel):
    """The best levels of a book."""

    symbol: str
    sequence: int = Field(description="Of the last change in it.")
    phase: str
    last_price: Number | None
    bids: list[LevelView] = Field(description="Highest first.")
    asks: list[LevelView] = Field(description="Lowest first.")
