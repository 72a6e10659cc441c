"""The state of a book as bytes and back, checked completely on the way back.

Layout: magic, header, symbol (UTF-8), one record per open order in time priority, BLAKE2b digest of all that.
"""

from hashlib import blake2b
from struct import Struct, error
from typing import Final

from app.exchange.book import OrderBook
from app.exchange.checks import LIMIT, malformed, waits
from app.exchange.commands import Place
from app.exchange.journal import JournalError, decode, encode
from app.exchange.levels import Order
from app.exchange.terms import Phase

_MAGIC: Final = b"TSBOOK01"
_HEADER: Final = Struct("<BqqqqqqqHI")
_STATE: Final = Struct("<qqq?")
_DIGEST_SIZE: Final = 32
_TERMS_SIZE: Final = 62


class SnapshotError(ValueError):
    """A snapshot that cannot be restored; the message says why."""


def dump(book: OrderBook) -> bytes:
    """The whole state of a book; equal states give equal bytes."""
    body = _body(book)
    return body + blake2b(body, digest_size=_DIGEST_SIZE).digest()


def digest(book: OrderBook) -> str:
    """Hexadecimal digest of a book's state."""
    return blake2b(_body(book), digest_size=_DIGEST_SIZE).hexdigest()


def load(snapshot: bytes, symbol: str) -> OrderBook:
    """A new book from a snapshot of this symbol.

    Raises:
        SnapshotError: it is damaged, inconsistent, or of another symbol.
    """
    body = snapshot[:-_DIGEST_SIZE]
    if blake2b(body, digest_size=_DIGEST_SIZE).digest() != snapshot[-_DIGEST_SIZE:]:
        raise SnapshotError("snapshot is cut off or damaged: its digest does not match")
    if not body.startswith(_MAGIC):
        raise SnapshotError(f"snapshot has an unknown format: it does not begin with {_MAGIC!r}")
    try:
        return _parse(body, symbol)
    except (error, JournalError, UnicodeDecodeError, IndexError) as cause:
        raise SnapshotError(f"snapshot is damaged: {cause}") from cause


def _body(book: OrderBook) -> bytes:
    symbol = book.symbol.encode()
    header = _HEADER.pack(
        book.phase,
        book.time,
        book.sequence,
        book.trades,
        book.entries,
        book.last_price,
        book.band_lower,
        book.band_upper,
        len(symbol),
        len(book.orders),
    )
    parts = [_MAGIC, header, symbol]
    for order in book.orders.values():
        partner = order.partner
        partner_id = 0 if partner is None else partner.order_id
        parts.append(encode(order.terms))
        parts.append(_STATE.pack(order.remaining, order.entry, partner_id, book.is_waiting(order)))
    return b"".join(parts)


def _parse(body: bytes, symbol: str) -> OrderBook:
    offset = len(_MAGIC)
    phase, time, sequence, trades, entries, last, lower, upper, name_length, count = _HEADER.unpack_from(
        body, offset
    )
    offset += _HEADER.size
    name = body[offset : offset + name_length].decode()
    offset += name_length
    if name != symbol:
        raise SnapshotError(f"snapshot is of {name!r}, not of {symbol!r}")
    if len(body) - offset != count * (_TERMS_SIZE + _STATE.size):
        raise SnapshotError(f"snapshot is damaged: its length does not fit {count} orders")
    book = OrderBook(symbol)
    book.phase = tuple(Phase)[phase]
    book.time, book.last_price = time, last
    book.sequence, book.trades = sequence, trades
    book.band_lower, book.band_upper = lower, upper
    _check(min(time, sequence, trades, entries, last, lower, upper - lower) >= 0, "a counter is negative")
    partners: dict[int, int] = {}
    for _ in range(count):
        (terms,) = decode(body[offset : offset + _TERMS_SIZE])
        remaining, entry, partner, waiting = _STATE.unpack_from(body, offset + _TERMS_SIZE)
        offset += _TERMS_SIZE + _STATE.size
        if not isinstance(terms, Place):
            raise SnapshotError("snapshot is damaged: a record is no order")
        _check_order(book, terms, remaining, entry, waiting)
        _check(entry <= entries, f"order {terms.order_id} has a time priority of the future")
        _open(book, terms, remaining, entry, waiting)
        if partner:
            partners[terms.order_id] = partner
    book.entries = entries
    _pair(book, partners)
    _check(book.phase is not Phase.CONTINUOUS or not book.is_crossed(), "the book is crossed")
    return book


def _check(holds: bool, complaint: str) -> None:
    if not holds:
        raise SnapshotError(f"snapshot is inconsistent: {complaint}")


def _check_order(book: OrderBook, terms: Place, remaining: int, entry: int, waiting: bool) -> None:
    name = f"order {terms.order_id}"
    reason = malformed(terms, book.time)
    _check(reason is None, f"{name} is not valid: {reason}")
    _check(terms.order_id not in book.orders, f"{name} is there twice")
    _check(0 < remaining <= terms.quantity, f"{name} has {remaining} of {terms.quantity} lots open")
    _check(entry > book.entries, f"{name} is out of time priority")
    if waiting:
        _check(waits(terms.order_type) and remaining == terms.quantity, f"{name} cannot wait")
    else:
        _check(terms.price > 0, f"{name} rests without a price")
        _check(not book.outside_band(terms.price), f"{name} is outside the price band")


def _open(book: OrderBook, terms: Place, remaining: int, entry: int, waiting: bool) -> None:
    order = Order(terms, terms.order_id, terms.account, remaining)
    book.entries = entry - 1
    if waiting:
        book.wait(order)
    else:
        book.rest(order)


def _pair(book: OrderBook, partners: dict[int, int]) -> None:
    for order_id, partner_id in partners.items():
        _check(partners.get(partner_id) == order_id, f"order {order_id} has no partner {partner_id}")
        book.orders[order_id].partner = book.orders[partner_id]
    for order_id in partners:
        order = book.orders[order_id]
        _check(order.partner is not order, f"order {order_id} is its own partner")
        limit = order.terms.order_type is LIMIT
        other = order.partner is not None and order.partner.terms.order_type is LIMIT
        _check(not (limit and other), f"order {order_id} and its partner both rest")
