"""A short way to give commands and to read events."""

from itertools import count
from typing import Protocol

from app.exchange import (
    Accepted,
    AdvanceTime,
    Cancel,
    CancelAll,
    Cancelled,
    ChangePhase,
    Command,
    Event,
    MassCancelled,
    OrderType,
    Phase,
    PhaseChanged,
    Place,
    PlaceOco,
    PriceBandSet,
    Reduced,
    Rejected,
    Replace,
    Replaced,
    SetPriceBand,
    Side,
    TimeAdvanced,
    Trade,
    Triggered,
    Uncrossed,
)


class Engine(Protocol):
    def apply(self, command: Command) -> list[Event]: ...


class Market:
    """Order ids count from 1 in the order of the calls; every order has an account of its own by default."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ids = count(1)
        self.now = 0

    def do(self, command: Command) -> list[str]:
        return [describe(event) for event in self.engine.apply(command)]

    def order(self, side: Side, quantity: int, price: int = 0, **terms: object) -> Place:
        order_id = next(self.ids)
        default = OrderType.LIMIT if price else OrderType.MARKET
        order_type = terms.pop("order_type", default)
        account = terms.pop("account", 100 + order_id)
        return Place(self.now, order_id, account, side, order_type, quantity, price, **terms)  # type: ignore[arg-type]

    def buy(self, quantity: int, price: int = 0, **terms: object) -> list[str]:
        return self.do(self.order(Side.BUY, quantity, price, **terms))

    def sell(self, quantity: int, price: int = 0, **terms: object) -> list[str]:
        return self.do(self.order(Side.SELL, quantity, price, **terms))

    def oco(self, first: Place, second: Place) -> list[str]:
        return self.do(PlaceOco(self.now, first, second))

    def cancel(self, order_id: int, account: int | None = None) -> list[str]:
        return self.do(Cancel(self.now, order_id, account or 100 + order_id))

    def cancel_all(self, account: int = 0) -> list[str]:
        return self.do(CancelAll(self.now, account))

    def replace(self, order_id: int, quantity: int, price: int = 0, stop_price: int = 0) -> list[str]:
        return self.do(Replace(self.now, order_id, 100 + order_id, quantity, price, stop_price))

    def phase(self, phase: Phase, reference_price: int = 0) -> list[str]:
        return self.do(ChangePhase(self.now, phase, reference_price))

    def band(self, lower: int, upper: int) -> list[str]:
        return self.do(SetPriceBand(self.now, lower, upper))

    def at(self, time: int) -> list[str]:
        self.now = time
        return self.do(AdvanceTime(time))


def altered(order: Place, **changes: object) -> Place:
    """The same order with other terms."""
    return Place(**dict(zip(Place.__match_args__, order.values(), strict=True)) | changes)


def describe(event: Event) -> str:
    """An event in few words, without symbol and sequence."""
    match event:
        case Accepted(order=order):
            return f"accepted {order.order_id}"
        case Rejected():
            return f"rejected {event.order_id} {event.reason}"
        case Trade():
            return f"trade {event.quantity}@{event.price} {event.maker_order_id}<-{event.taker_order_id}"
        case Cancelled():
            return f"cancelled {event.order_id} x{event.quantity} {event.reason}"
        case Reduced():
            return f"reduced {event.order_id} by {event.quantity} to {event.remaining}"
        case Replaced(order=order):
            kept = "kept" if event.kept_priority else "lost"
            return f"replaced {order.order_id} {event.remaining}@{order.price} {kept}"
        case Triggered():
            return f"triggered {event.order_id} at {event.last_price}"
        case MassCancelled():
            return f"mass cancelled {event.orders}"
        case PriceBandSet():
            return f"band {event.lower}-{event.upper}"
        case Uncrossed():
            return f"uncrossed {event.volume}@{event.price} surplus {event.surplus}"
        case PhaseChanged():
            return f"phase {event.phase.name.lower()}"
        case TimeAdvanced():
            return f"time {event.time}"
