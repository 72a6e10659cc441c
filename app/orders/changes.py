"""What changes of the matching engine mean for orders: the net effect of many on each, and the fills."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from app.events.matching import (
    Answer,
    Change,
    CommandRejected,
    MatchingOutput,
    OrderAccepted,
    OrderCancelled,
    OrderReduced,
    OrderReplaced,
    OrderTriggered,
    TradeMade,
)
from app.exchange.terms import CancelReason

ENTERED = "entered"
"""Status of an order that was accepted and nothing more: open, or waiting for its stop price."""
REJECTED = "rejected"


@dataclass(slots=True)
class OrderChange:
    """The net effect of changes on one order; None and "" leave a column as it is."""

    order_id: int
    changed_at: int = 0
    status: str = ""
    quantity: int | None = None
    less: int = 0
    """Lots that self-trade prevention took from the quantity."""
    price: int | None = None
    stop_price: int | None = None
    remaining: int | None = None
    filled: int = 0
    cost: int = 0
    reason: str | None = None
    answer_status: str = ""
    answer_filled: int = 0
    answer_reason: str = ""


@dataclass(frozen=True, slots=True)
class Fill:
    """What one order had of one trade; see `FillRow`."""

    order_id: int
    trade_id: int
    owner: str
    symbol: str
    side: str
    price: int
    quantity: int
    maker: bool
    at: int


@dataclass(slots=True)
class Effect:
    """What a batch of outputs does to the tables."""

    orders: dict[int, OrderChange] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)

    @property
    def completed(self) -> list[int]:
        """Orders whose last lot was filled."""
        return [change.order_id for change in self.orders.values() if change.status == "filled"]

    @property
    def rejected(self) -> list[OrderChange]:
        """Orders that were not entered."""
        return [change for change in self.orders.values() if change.status == REJECTED]


def effect_of(outputs: Iterable[MatchingOutput]) -> Effect:
    """The effect of outputs, in their order."""
    effect = Effect()
    for output in outputs:
        for change in output.changes:
            _add(effect, output, change)
        for answer in output.answers:
            _answer(effect, output, answer)
    return effect


def _order(effect: Effect, output: MatchingOutput, order_id: int) -> OrderChange:
    found = effect.orders.get(order_id)
    if found is None:
        found = effect.orders[order_id] = OrderChange(order_id)
    found.changed_at = output.at
    return found


def _add(effect: Effect, output: MatchingOutput, change: Change) -> None:
    match change:
        case TradeMade():
            _trade(effect, output, change)
        case OrderAccepted():
            order = _order(effect, output, change.order_id)
            order.status, order.remaining = ENTERED, change.quantity
        case OrderCancelled():
            _end(_order(effect, output, change.order_id), "cancelled", change.reason)
        case CommandRejected(command="place"):
            _end(_order(effect, output, change.order_id), REJECTED, change.reason)
        case OrderReduced():
            order = _order(effect, output, change.order_id)
            order.remaining = change.remaining
            order.less += change.quantity
            if change.remaining == 0:
                _end(order, "cancelled", CancelReason.SELF_TRADE)
        case OrderReplaced():
            order = _order(effect, output, change.order_id)
            order.quantity, order.less, order.remaining = change.quantity, 0, change.remaining
            order.price, order.stop_price = change.price, change.stop_price
        case OrderTriggered():
            _order(effect, output, change.order_id).status = "open"


def _trade(effect: Effect, output: MatchingOutput, trade: TradeMade) -> None:
    maker_side = "sell" if trade.taker_side == "buy" else "buy"
    for order_id, owner, side, remaining in (
        (trade.maker_order_id, trade.maker_owner, maker_side, trade.maker_remaining),
        (trade.taker_order_id, trade.taker_owner, trade.taker_side, trade.taker_remaining),
    ):
        order = _order(effect, output, order_id)
        order.filled += trade.quantity
        order.cost += trade.price * trade.quantity
        order.remaining = remaining
        order.status = "partially_filled" if remaining else "filled"
        effect.fills.append(
            Fill(
                order_id,
                trade.trade_id,
                owner,
                output.symbol,
                side,
                trade.price,
                trade.quantity,
                order_id == trade.maker_order_id,
                output.at,
            )
        )


def _end(order: OrderChange, status: str, reason: str) -> None:
    order.status, order.remaining, order.reason = status, 0, reason


def _answer(effect: Effect, output: MatchingOutput, answer: Answer) -> None:
    order = _order(effect, output, answer.order_id)
    order.answer_status, order.answer_filled, order.answer_reason = (
        answer.status,
        answer.filled,
        answer.reason,
    )
