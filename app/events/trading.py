"""Order, trade, risk and portfolio events. Prices are ticks, quantities lots, amounts minor units."""

from typing import Literal

from pydantic import Field

from app.events.registry import Payload, event

Side = Literal["buy", "sell"]


class _OrderEvent(Payload):
    order_id: str
    account: str
    symbol: str
    sequence: int = Field(ge=0)
    """Place in the symbol's stream; a gap means that something was missed."""


@event("order-events")
class OrderCreated(_OrderEvent):
    """An order was accepted."""

    side: Side
    order_type: str
    quantity: int = Field(gt=0)
    price: int | None = None


@event("order-events")
class OrderModified(_OrderEvent):
    """Quantity or price of a resting order changed."""

    quantity: int = Field(gt=0)
    price: int | None = None


@event("order-events")
class OrderCancelled(_OrderEvent):
    """An order left the book without being filled completely."""

    reason: str


@event("trade-events")
class TradeExecuted(Payload):
    """Two orders met."""

    trade_id: str
    symbol: str
    sequence: int = Field(ge=0)
    price: int
    quantity: int = Field(gt=0)
    maker_order_id: str
    taker_order_id: str
    taker_side: Side


@event("trade-events")
class TradeSettled(Payload):
    """The ledger holds both sides of a trade."""

    trade_id: str
    symbol: str
    transfer_id: str


@event("portfolio-events")
class PositionUpdated(Payload):
    """A position after a change."""

    account: str
    symbol: str
    quantity: int
    cost: int


@event("portfolio-events")
class PnLCalculated(Payload):
    """Profit and loss of a position."""

    account: str
    symbol: str
    realised: int
    unrealised: int


@event("risk-events")
class MarginCall(Payload):
    """An account has to add collateral or reduce its positions."""

    account: str
    required: int
    available: int


@event("risk-events")
class PositionLimitBreached(Payload):
    """A position is over its limit."""

    account: str
    symbol: str
    limit: int
    position: int
