"""What the order book answered, as the changes and events that others follow. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol

from app.events import matching as told
from app.events import trading
from app.events.envelope import Envelope
from app.events.matching import Answer, Change, MatchingOutput
from app.events.registry import Payload, name_of, topic_of
from app.exchange import (
    Accepted,
    Cancel,
    CancelAll,
    Cancelled,
    Command,
    Event,
    MassCancelled,
    OrderType,
    PhaseChanged,
    Place,
    PlaceOco,
    PriceBandSet,
    Reduced,
    Rejected,
    Replace,
    Replaced,
    TimeAdvanced,
    Trade,
    Triggered,
    Uncrossed,
)
from app.exchange.terms import CancelReason
from app.matching.names import ORDER_TYPE_NAMES, PHASE_NAMES, SIDE_NAMES
from app.matching.protection import is_protected

PRODUCER: Final = "matching-engine"
MOST_CHANGES: Final = 1_000
"""Of one message: half a megabyte at the most, and brokers take one. One command can make any number of
changes: it sweeps a book, or cancels everything."""
_OfOrder = told.OrderAccepted | told.OrderReplaced | told.OrderCancelled | told.OrderReduced


class Owners(Protocol):
    """Who the account numbers of the book are."""

    def owner(self, number: int) -> str:
        """Owner of a number; empty for 0."""


def translate(
    command: Command, events: Sequence[Event], owners: Owners
) -> tuple[tuple[Change, ...], tuple[Answer, ...]]:
    """The changes that a command made, one for each event with its sequence, and the answers to its sender.

    A command that enters an order has one answer, a pair two, others none. A pair that is rejected has one
    event, which names its first order; it ends both.

    Raises:
        KeyError: an account has no owner.
    """
    changes = tuple([_change(event, command, owners) for event in events])
    if isinstance(command, Place):
        return changes, (_answer(command, command.order_id, events),)
    if isinstance(command, PlaceOco):
        first = command.first.order_id
        return changes, tuple(_answer(order, first, events) for order in (command.first, command.second))
    return changes, ()


def parts(output: MatchingOutput) -> list[MatchingOutput]:
    """An output as messages of at most `MOST_CHANGES` changes, always the same ones, each with the answers of
    the orders that were entered in it."""
    if len(output.changes) <= MOST_CHANGES:
        return [output]
    entered = {
        change.order_id: change.sequence
        for change in output.changes
        if isinstance(change, told.OrderAccepted)
        or (isinstance(change, told.CommandRejected) and change.command == "place")
    }
    answers: dict[int, list[Answer]] = {}
    sequence = output.first
    for answer in output.answers:
        # The second order of a pair that was rejected is named by no change: it goes with the first.
        sequence = entered.get(answer.order_id, sequence)
        answers.setdefault((sequence - output.first) // MOST_CHANGES, []).append(answer)
    found = []
    for number, start in enumerate(range(0, len(output.changes), MOST_CHANGES)):
        changes = output.changes[start : start + MOST_CHANGES]
        update = {"first": changes[0].sequence, "last": changes[-1].sequence, "changes": changes}
        found.append(output.model_copy(update={**update, "answers": tuple(answers.get(number, ()))}))
    return found


def output_envelope(output: MatchingOutput) -> Envelope:
    """An output as it goes to the bus: the same for the same changes, however often it is made."""
    return _envelope(
        output, output.symbol, f"matching:{output.symbol}:{output.first}-{output.last}", output.at
    )


def family_envelopes(output: MatchingOutput, asked: Mapping[int, OrderType]) -> list[Envelope]:
    """The events of the public families order-events and trade-events that an output gives, in its order.

    `asked` is for each order that the output accepts the type that was asked for.
    """
    symbol, at = output.symbol, output.at
    made = ((change, family_event(symbol, change, asked)) for change in output.changes)
    return [
        _envelope(event, symbol, f"{topic_of(name_of(type(event))[0])}:{symbol}:{change.sequence}", at)
        for change, event in made
        if event is not None
    ]


def family_event(symbol: str, change: Change, asked: Mapping[int, OrderType]) -> Payload | None:
    """The event of the public families that tells of a change; None when there is none for it.

    Raises:
        KeyError: `asked` has no type for an order that is accepted.
    """
    match change:
        case told.OrderAccepted():
            kind = asked[change.order_id]
            return trading.OrderCreated(
                **_order(symbol, change),
                side=change.side,
                order_type=ORDER_TYPE_NAMES[kind],
                quantity=change.quantity,
                price=None if is_protected(kind) else change.price,
            )
        case told.OrderReplaced():
            hidden = change.order_id in asked and is_protected(asked[change.order_id])
            price = None if hidden else change.price
            return trading.OrderModified(**_order(symbol, change), quantity=change.quantity, price=price)
        case told.OrderCancelled():
            return trading.OrderCancelled(**_order(symbol, change), reason=change.reason)
        case told.OrderReduced(remaining=0):
            return trading.OrderCancelled(**_order(symbol, change), reason=CancelReason.SELF_TRADE)
        case told.TradeMade():
            return trading.TradeExecuted(
                trade_id=trade_id(symbol, change.trade_id),
                symbol=symbol,
                sequence=change.sequence,
                price=change.price,
                quantity=change.quantity,
                maker_order_id=str(change.maker_order_id),
                taker_order_id=str(change.taker_order_id),
                taker_side=change.taker_side,
            )
        case _:
            return None


def trade_made(event: Trade, owners: Owners) -> told.TradeMade:
    """The change of a trade; what the core says is not checked once more."""
    return told.TradeMade.model_construct(
        sequence=event.sequence,
        trade_id=event.trade_id,
        price=event.price,
        quantity=event.quantity,
        taker_side=SIDE_NAMES[event.taker_side],
        maker_order_id=event.maker_order_id,
        taker_order_id=event.taker_order_id,
        maker_owner=owners.owner(event.maker_account),
        taker_owner=owners.owner(event.taker_account),
        maker_remaining=event.maker_remaining,
        taker_remaining=event.taker_remaining,
    )


def trade_id(symbol: str, number: int) -> str:
    """What a trade is called outside of its symbol's stream; unique over all symbols."""
    return f"{symbol}:{number}"


def _order(symbol: str, change: _OfOrder) -> dict[str, Any]:
    return {
        "order_id": str(change.order_id),
        "account": change.owner,
        "symbol": symbol,
        "sequence": change.sequence,
    }


def _envelope(payload: Payload, key: str, id: str, at: int) -> Envelope:
    made = Envelope.of(payload, key=key, producer=PRODUCER, id=id)
    return made.model_copy(update={"time": datetime.fromtimestamp(at / 1000, UTC)})


def _change(event: Event, command: Command, owners: Owners) -> Change:
    match event:
        case Accepted():
            order = event.order
            return told.OrderAccepted(
                sequence=event.sequence,
                order_id=order.order_id,
                owner=owners.owner(order.account),
                side=SIDE_NAMES[order.side],
                quantity=order.quantity,
                price=order.price,
            )
        case Trade():
            return trade_made(event, owners)
        case Cancelled():
            return told.OrderCancelled(
                sequence=event.sequence,
                order_id=event.order_id,
                owner=owners.owner(event.account),
                quantity=event.quantity,
                reason=event.reason,
            )
        case Rejected():
            return told.CommandRejected(
                sequence=event.sequence,
                command=_kind(command),
                order_id=event.order_id,
                owner=owners.owner(_account(command)),
                reason=event.reason,
            )
        case Reduced():
            return told.OrderReduced(
                sequence=event.sequence,
                order_id=event.order_id,
                owner=owners.owner(event.account),
                quantity=event.quantity,
                remaining=event.remaining,
            )
        case Replaced():
            order = event.order
            return told.OrderReplaced(
                sequence=event.sequence,
                order_id=order.order_id,
                owner=owners.owner(order.account),
                side=SIDE_NAMES[order.side],
                quantity=order.quantity,
                price=order.price,
                stop_price=order.stop_price,
                remaining=event.remaining,
                kept_priority=event.kept_priority,
            )
        case Triggered():
            return told.OrderTriggered(
                sequence=event.sequence,
                order_id=event.order_id,
                owner=owners.owner(event.account),
                last_price=event.last_price,
            )
        case _:
            return _market_change(event, owners)


def _market_change(
    event: MassCancelled | PriceBandSet | Uncrossed | PhaseChanged | TimeAdvanced, owners: Owners
) -> told.MarketChanged:
    what: Literal["phase", "price_band", "uncrossed", "mass_cancelled", "time"]
    values: dict[str, int | str]
    match event:
        case MassCancelled():
            what, values = "mass_cancelled", {"owner": owners.owner(event.account), "orders": event.orders}
        case PriceBandSet():
            what, values = "price_band", {"lower": event.lower, "upper": event.upper}
        case Uncrossed():
            what = "uncrossed"
            values = {"price": event.price, "volume": event.volume, "surplus": event.surplus}
        case PhaseChanged():
            what, values = "phase", {"phase": PHASE_NAMES[event.phase]}
        case TimeAdvanced():
            what, values = "time", {"time": event.time}
    return told.MarketChanged(sequence=event.sequence, what=what, values=values)


def _kind(command: Command) -> Literal["place", "replace", "cancel", "other"]:
    if isinstance(command, Place | PlaceOco):
        return "place"
    if isinstance(command, Replace):
        return "replace"
    return "cancel" if isinstance(command, Cancel) else "other"


def _account(command: Command) -> int:
    """Whose command it is; 0 for the market's own."""
    if isinstance(command, PlaceOco):
        return command.first.account
    if isinstance(command, Place | Replace | Cancel | CancelAll):
        return command.account
    return 0


def _answer(order: Place, named: int, events: Sequence[Event]) -> Answer:
    """The state of an order after its own command, whose events call it `named` when it is rejected."""
    id = order.order_id
    waiting = order.stop_price != 0
    filled = 0
    remaining = order.quantity
    reason = ""
    for event in events:
        if isinstance(event, Trade):
            if id in (event.taker_order_id, event.maker_order_id):
                filled += event.quantity
                remaining -= event.quantity
        elif isinstance(event, Rejected):
            if event.order_id == named:
                return Answer(order_id=id, status="rejected", filled=0, reason=event.reason)
        elif isinstance(event, Triggered):
            waiting = waiting and event.order_id != id
        elif isinstance(event, Reduced):
            if event.order_id == id:
                remaining = event.remaining
                reason = "" if remaining else CancelReason.SELF_TRADE
        elif isinstance(event, Cancelled) and event.order_id == id:
            remaining, reason = 0, event.reason
    return Answer(
        order_id=id, status=_status(remaining, filled, waiting, reason), filled=filled, reason=reason
    )


def _status(
    remaining: int, filled: int, waiting: bool, reason: str
) -> Literal["open", "waiting", "partially_filled", "filled", "cancelled"]:
    if remaining == 0:
        return "cancelled" if reason else "filled"
    if waiting:
        return "waiting"
    return "partially_filled" if filled else "open"
