"""The call auction: collected orders trade at one price."""

from typing import NamedTuple

from app.exchange.book import OrderBook
from app.exchange.events import Trade, Uncrossed
from app.exchange.levels import BookSide, Order, unlink
from app.exchange.matching import record_range


class Clearing(NamedTuple):
    """Where an auction clears."""

    price: int
    volume: int
    surplus: int
    """Lots bought minus lots sold at the price, before trading."""


def uncross(book: OrderBook, reference_price: int) -> None:
    """Trade a crossed book at its clearing price, orders in price-time priority.

    Self-trade prevention has no part in an auction: nobody takes, and the volume at the price is fixed.
    """
    if not book.is_crossed():
        return
    clearing = clear(book, reference_price or book.last_price)
    book.events.append(
        Uncrossed(book.symbol, book.next_sequence(), clearing.price, clearing.volume, clearing.surplus)
    )
    left = clearing.volume
    while left:
        buy = book.bids.levels[book.bids.keys[-1]].head
        sell = book.asks.levels[book.asks.keys[-1]].head
        if buy is None or sell is None:
            break
        quantity = min(left, buy.remaining, sell.remaining)
        left -= quantity
        _trade(book, buy, sell, clearing.price, quantity)
    record_range(book, clearing.price, clearing.price)


def clear(book: OrderBook, reference_price: int) -> Clearing:
    """The clearing price of a crossed book.

    Of all limit prices and the reference price, the one with the largest volume; of these the smallest
    surplus; of these the nearest to the reference price (0: none); of these the lowest.
    """
    bids, asks = book.bids, book.asks
    candidates = sorted({*bids.keys, *(-key for key in asks.keys)})
    if reference_price and not book.outside_band(reference_price):
        candidates = sorted({*candidates, reference_price})
    supply = _at_most(asks, candidates)
    demand = _at_least(bids, candidates)
    best: tuple[int, int, int, int] | None = None
    for price, bought, sold in zip(candidates, demand, supply, strict=True):
        distance = abs(price - reference_price) if reference_price else 0
        rank = (-min(bought, sold), abs(bought - sold), distance, price)
        if best is None or rank < best:
            best = rank
            clearing = Clearing(price, min(bought, sold), bought - sold)
    return clearing


def _at_most(asks: BookSide, prices: list[int]) -> list[int]:
    """Lots offered at or below each of the ascending prices."""
    totals: list[int] = []
    total = 0
    index = len(asks.keys) - 1
    for price in prices:
        while index >= 0 and -asks.keys[index] <= price:
            total += asks.levels[asks.keys[index]].quantity
            index -= 1
        totals.append(total)
    return totals


def _at_least(bids: BookSide, prices: list[int]) -> list[int]:
    """Lots wanted at or above each of the ascending prices."""
    totals: list[int] = []
    total = 0
    index = len(bids.keys) - 1
    for price in reversed(prices):
        while index >= 0 and bids.keys[index] >= price:
            total += bids.levels[bids.keys[index]].quantity
            index -= 1
        totals.append(total)
    return totals[::-1]


def _trade(book: OrderBook, buy: Order, sell: Order, price: int, quantity: int) -> None:
    for order in (buy, sell):
        _execute(book, order, quantity)
    maker, taker = (buy, sell) if buy.entry < sell.entry else (sell, buy)
    book.trades += 1
    book.events.append(
        Trade(
            book.symbol,
            book.next_sequence(),
            book.trades,
            price,
            quantity,
            taker.terms.side,
            maker.order_id,
            taker.order_id,
            maker.account,
            taker.account,
            maker.remaining,
            taker.remaining,
        )
    )
    for order in (maker, taker):
        book.cancel_partner(order)


def _execute(book: OrderBook, order: Order, quantity: int) -> None:
    if order.remaining == quantity:
        unlink(order)
        del book.orders[order.order_id]
    elif order.level is not None:
        order.level.quantity -= quantity
    order.remaining -= quantity
