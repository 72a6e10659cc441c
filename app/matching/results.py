"""What senders are told, from what the books did."""

from collections.abc import Sequence

from app.exchange import Cancelled, Event, Place, Rejected, Replaced
from app.matching.books import Outcome
from app.matching.tasks import Item, kind_of, state_of
from app.matching_client.commands import OrderState, Result, Status


def result_of(item: Item, outcomes: Sequence[Outcome]) -> Result:
    """The answer to an item that the books carried out; one outcome for each of its commands."""
    kind = kind_of(item.task)
    if kind in ("place", "oco"):
        answers = outcomes[0].answers
        states = tuple(
            state_of(order, answer.status, answer.filled, answer.reason)
            for order, answer in zip(item.orders, answers, strict=True)
        )
        rejected = answers[0].status == "rejected"
        reason = answers[0].reason if rejected else ""
        return Result(kind=kind, code="rejected" if rejected else "ok", reason=reason, orders=states)
    rejections = [found for one in outcomes if (found := _rejection(one.events)) is not None]
    if rejections:
        return Result(kind=kind, code="rejected", reason=rejections[0])
    named = outcomes[0].before is not None
    orders = (_state(item.entries[0][0], outcomes[0]),) if named else ()
    return Result(kind=kind, code="ok", orders=orders)


def _rejection(events: Sequence[Event]) -> str | None:
    return next((event.reason.value for event in events if isinstance(event, Rejected)), None)


def _state(symbol: str, outcome: Outcome) -> OrderState:
    """The order that was cancelled or replaced, as it is now."""
    if outcome.after is not None:
        terms, remaining, waiting = outcome.after
        filled = terms.quantity - remaining
        status: Status = "waiting" if waiting else "partially_filled" if filled else "open"
        return _told(symbol, terms, status, filled, remaining, "")
    assert outcome.before is not None  # noqa: S101 - asked by the caller
    terms, _ = outcome.before
    for event in outcome.events:
        if isinstance(event, Cancelled) and event.order_id == terms.order_id:
            quantity = _quantity(outcome, terms)
            return _told(symbol, terms, "cancelled", quantity - event.quantity, 0, event.reason.value)
    return _told(symbol, terms, "filled", _quantity(outcome, terms), 0, "")


def _quantity(outcome: Outcome, terms: Place) -> int:
    """Total lots of an order that ended with its replace or cancel."""
    for event in outcome.events:
        if isinstance(event, Replaced) and event.order.order_id == terms.order_id:
            return event.order.quantity
    return terms.quantity


def _told(symbol: str, terms: Place, status: Status, filled: int, remaining: int, reason: str) -> OrderState:
    return OrderState(
        order_id=terms.order_id,
        client_order_id="",
        symbol=symbol,
        status=status,
        filled=filled,
        remaining=remaining,
        reason=reason,
        created_at=terms.time,
    )
