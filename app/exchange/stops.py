"""Stop and take-profit orders become active when trades reach their stop price."""

from heapq import heappop, heappush

from app.exchange.book import OrderBook
from app.exchange.checks import has_limit
from app.exchange.events import Triggered
from app.exchange.levels import BookSide, Order, unlink
from app.exchange.matching import enter
from app.exchange.terms import CancelReason


def activate(book: OrderBook, order: Order) -> None:
    """Let an order that is not open (any more) trade, because its stop price was reached."""
    book.events.append(
        Triggered(book.symbol, book.next_sequence(), order.order_id, order.account, book.last_price)
    )
    book.cancel_partner(order)
    if has_limit(order.terms.order_type) and book.outside_band(order.terms.price):
        book.cancel_unopened(order, CancelReason.PRICE_BAND)
    else:
        enter(book, order)


def activate_touched(book: OrderBook) -> None:
    """Activate every waiting order that the command's trades touched, always the oldest next.

    Their own trades widen the range and may touch further orders.
    """
    touched: list[tuple[int, Order]] = []
    while True:
        if book.touched_high != 0:
            _take(book.rising, -book.touched_high, touched)
            _take(book.falling, book.touched_low, touched)
        if not touched:
            return
        order = heappop(touched)[1]
        if book.orders.get(order.order_id) is order:
            book.remove(order)
            activate(book, order)


def _take(side: BookSide, worst: int, touched: list[tuple[int, Order]]) -> None:
    """Move orders of levels down to the key `worst` from a side to the heap `touched`."""
    keys = side.keys
    while keys and keys[-1] >= worst:
        order = side.levels[keys[-1]].head
        if order is None:
            return
        unlink(order)
        heappush(touched, (order.entry, order))
