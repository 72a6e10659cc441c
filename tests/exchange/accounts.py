"""Books kept from events alone: what every consumer must be able to rely on."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from app.exchange import (
    Accepted,
    Cancelled,
    Event,
    MatchingEngine,
    Phase,
    Reduced,
    Replaced,
    Side,
    Trade,
)


@dataclass
class Line:
    """What became of one order."""

    side: Side
    submitted: int
    executed: int = 0
    cancelled: int = 0

    @property
    def open(self) -> int:
        return self.submitted - self.executed - self.cancelled


@dataclass
class Accounts:
    """Adds events up and complains about whatever does not add up."""

    sequence: int = 0
    trades: int = 0
    bought: int = 0
    sold: int = 0
    lines: dict[int, Line] = field(default_factory=dict)
    """Open orders by id."""

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            assert event.sequence == self.sequence + 1
            self.sequence = event.sequence
            match event:
                case Accepted(order=order):
                    assert order.order_id not in self.lines
                    self.lines[order.order_id] = Line(order.side, order.quantity)
                case Replaced(order=order, remaining=remaining):
                    line = self.lines[order.order_id]
                    line.submitted = order.quantity + line.cancelled
                    assert line.open == remaining
                case Trade():
                    self.trade(event)
                case Cancelled(order_id=order_id, quantity=quantity):
                    line = self.lines.pop(order_id)
                    line.cancelled += quantity
                    assert line.open == 0
                case Reduced(order_id=order_id, quantity=quantity, remaining=remaining):
                    line = self.lines[order_id]
                    line.cancelled += quantity
                    assert line.open == remaining > 0
                case _:
                    pass

    def trade(self, trade: Trade) -> None:
        self.trades += 1
        assert trade.trade_id == self.trades
        assert trade.quantity > 0
        for order_id, remaining in (
            (trade.maker_order_id, trade.maker_remaining),
            (trade.taker_order_id, trade.taker_remaining),
        ):
            line = self.lines[order_id]
            line.executed += trade.quantity
            assert line.open == remaining >= 0
            if line.side is Side.BUY:
                self.bought += trade.quantity
            else:
                self.sold += trade.quantity
            if remaining == 0:
                del self.lines[order_id]


def check(engine: MatchingEngine, accounts: Accounts) -> None:
    """Engine and events agree, every lot is accounted for, and the book is sound."""
    book = engine.book
    assert accounts.bought == accounts.sold
    assert {order_id: order.remaining for order_id, order in book.orders.items()} == {
        order_id: line.open for order_id, line in accounts.lines.items()
    }
    assert book.phase is not Phase.CONTINUOUS or not book.is_crossed()
    open_ids = set()
    for side in (book.bids, book.asks, book.rising, book.falling):
        assert side.keys == sorted(side.levels)
        for key, level in side.levels.items():
            order, before, total = level.head, None, 0
            while order is not None:
                assert order.level is level
                assert order.previous is before
                assert before is None or before.entry < order.entry
                assert order.remaining > 0
                total += order.remaining
                open_ids.add(order.order_id)
                before, order = order, order.next
            assert level.tail is before
            assert level.quantity == total > 0
            assert level.key == key
    assert open_ids == set(book.orders)
