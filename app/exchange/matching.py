"""Continuous trading: an order against the opposite side, in price-time priority."""

from typing import Final

from app.exchange.book import OrderBook
from app.exchange.events import Reduced, Trade
from app.exchange.levels import BookSide, Order, unlink
from app.exchange.terms import MAX_VALUE, CancelReason, Phase, SelfTradePrevention, Side, TimeInForce

_BUY: Final = Side.BUY
_IOC: Final = TimeInForce.IOC
_FOK: Final = TimeInForce.FOK
_CONTINUOUS: Final = Phase.CONTINUOUS
_ALLOW: Final = SelfTradePrevention.NONE
_CANCEL_TAKER: Final = SelfTradePrevention.CANCEL_TAKER
_CANCEL_MAKER: Final = SelfTradePrevention.CANCEL_MAKER
_CANCEL_BOTH: Final = SelfTradePrevention.CANCEL_BOTH
_ANY_PRICE: Final = -MAX_VALUE - 1


def enter(book: OrderBook, order: Order) -> None:
    """Trade an active order; what is left rests or is cancelled, as its type and time in force say."""
    terms = order.terms
    price = terms.price
    if book.phase is not _CONTINUOUS:
        book.rest(order)
        return
    opposite = book.asks if terms.side is _BUY else book.bids
    worst = price * opposite.sign if price != 0 else _ANY_PRICE
    tif = terms.time_in_force
    if tif is _FOK and not _can_fill(order, opposite, worst):
        book.cancel_unopened(order, CancelReason.FILL_OR_KILL)
        return
    keys = opposite.keys
    if keys and keys[-1] >= worst:
        _match(book, order, opposite, worst)
        if order.remaining == 0:
            return
    if price == 0:
        book.cancel_unopened(order, CancelReason.NO_LIQUIDITY)
    elif tif is _IOC:
        book.cancel_unopened(order, CancelReason.IMMEDIATE_OR_CANCEL)
    else:
        book.rest(order)


def would_take(book: OrderBook, side: Side, price: int) -> bool:
    """Whether a limit order would trade at once."""
    if book.phase is not _CONTINUOUS:
        return False
    opposite = book.opposite_of(side)
    return bool(opposite.keys) and opposite.keys[-1] >= price * opposite.sign


def _match(book: OrderBook, taker: Order, opposite: BookSide, worst: int) -> None:
    """Trade with levels down to the key `worst` until either is used up."""
    keys = opposite.keys
    levels = opposite.levels
    symbol = book.symbol
    append = book.events.append
    taker_id = taker.order_id
    account = taker.account
    taker_side = taker.terms.side
    prevention = taker.terms.self_trade_prevention
    remaining = taker.remaining
    first = 0
    price = 0
    while remaining != 0 and keys:
        key = keys[-1]
        if key < worst:
            break
        level = levels[key]
        maker = level.head
        if maker is None:
            break
        if prevention is not _ALLOW and maker.account == account:
            taker.remaining = remaining
            _prevent_self_trade(book, taker, maker, prevention)
            remaining = taker.remaining
            continue
        price = key * opposite.sign
        if first == 0:
            first = price
        open_quantity = maker.remaining
        if remaining >= open_quantity:
            quantity = open_quantity
            remaining -= quantity
            unlink(maker)
            maker.remaining = 0
            del book.orders[maker.order_id]
        else:
            quantity = remaining
            remaining = 0
            level.quantity -= quantity
            maker.remaining = open_quantity - quantity
        book.trades = trade_id = book.trades + 1
        book.sequence = sequence = book.sequence + 1
        append(
            Trade(
                symbol,
                sequence,
                trade_id,
                price,
                quantity,
                taker_side,
                maker.order_id,
                taker_id,
                maker.account,
                account,
                maker.remaining,
                remaining,
            )
        )
        if maker.partner is not None:
            book.cancel_partner(maker)
    taker.remaining = remaining
    if first != 0:
        record_range(book, first, price)


def record_range(book: OrderBook, first: int, last: int) -> None:
    """Remember the prices of trades that ran from `first` to `last`, for the orders that wait for a price."""
    book.last_price = last
    low, high = (first, last) if first < last else (last, first)
    if book.touched_low == 0 or low < book.touched_low:
        book.touched_low = low
    if high > book.touched_high:
        book.touched_high = high


def _prevent_self_trade(book: OrderBook, taker: Order, maker: Order, prevention: SelfTradePrevention) -> None:
    if prevention is _CANCEL_TAKER:
        book.cancel_unopened(taker, CancelReason.SELF_TRADE)
    elif prevention is _CANCEL_MAKER:
        book.cancel(maker, CancelReason.SELF_TRADE)
    elif prevention is _CANCEL_BOTH or taker.remaining == maker.remaining:
        book.cancel(maker, CancelReason.SELF_TRADE)
        book.cancel_unopened(taker, CancelReason.SELF_TRADE)
    elif taker.remaining > maker.remaining:
        quantity = maker.remaining
        book.cancel(maker, CancelReason.SELF_TRADE)
        _reduce(book, taker, quantity)
    else:
        quantity = taker.remaining
        book.cancel_unopened(taker, CancelReason.SELF_TRADE)
        if maker.level is not None:
            maker.level.quantity -= quantity
        _reduce(book, maker, quantity)
        book.cancel_partner(maker)


def _reduce(book: OrderBook, order: Order, quantity: int) -> None:
    order.remaining -= quantity
    terms = order.terms
    order.terms = terms.changed(terms.quantity - quantity, terms.price, terms.stop_price)
    book.events.append(
        Reduced(book.symbol, book.next_sequence(), order.order_id, order.account, quantity, order.remaining)
    )


def _can_fill(taker: Order, opposite: BookSide, worst: int) -> bool:
    """Whether an order would be filled completely, self-trade prevention included."""
    needed = taker.remaining
    prevention = taker.terms.self_trade_prevention
    for key in reversed(opposite.keys):
        if key < worst:
            break
        maker = opposite.levels[key].head
        while maker is not None:
            if prevention is _ALLOW or maker.account != taker.account:
                needed -= maker.remaining
                if needed <= 0:
                    return True
            elif prevention is not _CANCEL_MAKER:
                return False
            maker = maker.next
    return False
