"""The channel `depth`: the best price levels of each order book, whole at first and then as changes.

The copy of a book changes by one update at a time, in the order of their numbers, and only when the checksum
of the result is that of the update. Of a book that cannot be continued so, nothing is told until it is there
as a whole again; `lost` names it, and `depth_follower` gets it from the matching engine.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson
from prometheus_client import Counter, Gauge

from app.events.books import BookUpdated, checksum
from app.instruments import INSTRUMENTS
from app.kit import logs
from app.price_service.frames import text_frame
from app.price_service.hub import Hub
from app.price_service.streams import Entry, name, symbol_of

CHANNEL: Final = "depth"
_HELD: Final = 200
"""Changes of a book that wait for the whole of it: 20 s of the engine's usual pace."""
_log = logs.get(__name__)
losses = Counter("depth_losses_total", "Books of which a replica had to ask the matching engine", ["reason"])
_lost = Gauge("depth_books_lost", "Books that are not up to date until the matching engine tells them")


class _Book:
    """The copy of one book, at the place of the last message that was published of it."""

    __slots__ = ("_body", "_head", "_tail", "asks", "bids", "epoch", "seq")

    def __init__(self, update: BookUpdated, bids: dict[int, int], asks: dict[int, int]) -> None:
        self.epoch = update.epoch
        self.seq = update.seq
        self.bids = bids
        self.asks = asks
        self._head = _head(update)
        self._tail = {"checksum": update.checksum}
        self._body: bytes | None = None

    def frame(self, symbol: str, reason: str) -> bytes:
        """The whole book; what does not depend on the reason is made once."""
        if self._body is None:
            bids = sorted(self.bids.items(), reverse=True)
            asks = sorted(self.asks.items())
            levels = {"bids": _levels(symbol, bids), "asks": _levels(symbol, asks)}
            self._body = orjson.dumps({**self._head, **levels, **self._tail})[1:]
        return text_frame(b'{"type":"depthSnapshot","reason":"%b",%b' % (reason.encode(), self._body))


class Depth:
    """The copies of all books; see `Channel`."""

    names = (CHANNEL,)

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._books: dict[str, _Book] = {}
        self._held: dict[str, deque[BookUpdated]] = {}
        """Changes that cannot be applied before the whole book is there."""
        self.lost: set[str] = set()
        """Symbols whose books have to be got as a whole."""

    def lose(self, symbols: Iterable[str], reason: str) -> None:
        """Have books got as a whole, because updates of them may be missing."""
        new = set(symbols) - self.lost
        if new:
            losses.labels(reason).inc(len(new))
            self.lost |= new
            _lost.set(len(self.lost))

    def take(self, updates: Iterable[BookUpdated]) -> None:
        """Publish what continues the books, oldest first, and note what does not."""
        entries = [entry for update in updates if (entry := self._take(update)) is not None]
        if entries:
            self._hub.publish(entries)

    def load(self, books: Iterable[BookUpdated]) -> None:
        """Go on from books as the matching engine says that they are, whatever came before."""
        entries: list[Entry] = []
        for whole in books:
            if whole.symbol not in self.lost:
                continue
            known = self._books.get(whole.symbol)
            if known is None or known.epoch != whole.epoch or known.seq < whole.seq:
                entry = self._replace(whole)
                if entry is None:
                    continue
                entries.append(entry)
            self._found(whole.symbol)
            held = self._held.pop(whole.symbol, ())
            current = [update for update in held if int(update.epoch) >= int(whole.epoch)]
            entries += [entry for update in current if (entry := self._take(update)) is not None]
        if entries:
            self._hub.publish(entries)

    def snapshot(self, streams: Sequence[str], reason: str) -> list[bytes]:
        """See `Channel`: one message for each book."""
        symbols = map(symbol_of, streams)
        return [self._books[symbol].frame(symbol, reason) for symbol in symbols if symbol in self._books]

    def _take(self, update: BookUpdated) -> Entry | None:
        """The message that an update gives, once it is in the copy."""
        symbol = update.symbol
        if symbol not in INSTRUMENTS:
            return None  # a newer version of the app trades it
        known = self._books.get(symbol)
        later = known is None or int(update.epoch) > int(known.epoch)
        if known is not None and not later:
            if update.epoch != known.epoch:
                # A leader that was replaced, most likely, or the numbers of the terms began anew.
                self.lose([symbol], "epoch")
                return None
            if update.seq <= known.seq:
                return None
        if update.kind == "snapshot":
            entry = self._replace(update)
            if entry is not None:
                self._held.pop(symbol, None)
                self._found(symbol)
            return entry
        if known is not None and not later and update.seq == known.seq + 1:
            return self._change(known, update)
        self._held.setdefault(symbol, deque(maxlen=_HELD)).append(update)
        self.lose([symbol], "start" if known is None else "epoch" if later else "gap")
        return None

    def _replace(self, update: BookUpdated) -> Entry | None:
        if checksum(update.bids, update.asks) != update.checksum:
            self._broken(update)
            return None
        book = self._books[update.symbol] = _Book(update, dict(update.bids), dict(update.asks))
        return _entry(update, book.frame(update.symbol, "resync"), reset=True)

    def _change(self, known: _Book, update: BookUpdated) -> Entry | None:
        try:
            bids, asks = _changed(known.bids, update.bids), _changed(known.asks, update.asks)
        except KeyError:
            self._broken(update)
            return None
        if checksum(sorted(bids.items(), reverse=True), sorted(asks.items())) != update.checksum:
            self._broken(update)
            return None
        self._books[update.symbol] = _Book(update, bids, asks)
        told = {
            "type": "depth",
            **_head(update),
            "bids": _levels(update.symbol, update.bids),
            "asks": _levels(update.symbol, update.asks),
            "checksum": update.checksum,
        }
        return _entry(update, text_frame(orjson.dumps(told)))

    def _broken(self, update: BookUpdated) -> None:
        _log.error("the book is not what the engine has", symbol=update.symbol, seq=update.seq)
        self.lose([update.symbol], "checksum")

    def _found(self, symbol: str) -> None:
        self.lost.discard(symbol)
        _lost.set(len(self.lost))


def _changed(side: dict[int, int], changes: Iterable[tuple[int, int]]) -> dict[int, int]:
    """A side with other quantities at some prices; raises KeyError when a level goes that is not there."""
    after = dict(side)
    for price, quantity in changes:
        if quantity:
            after[price] = quantity
        else:
            del after[price]
    return after


def _entry(update: BookUpdated, data: bytes, *, reset: bool = False) -> Entry:
    return Entry(name(CHANNEL, update.symbol), update.epoch, update.seq, update.at, data, reset)


def _head(update: BookUpdated) -> dict[str, Any]:
    return {
        "stream": name(CHANNEL, update.symbol),
        "epoch": update.epoch,
        "seq": update.seq,
        "time": update.at,
    }


def _levels(symbol: str, levels: Iterable[tuple[int, int]]) -> list[tuple[str, str]]:
    """Levels as clients see them, in decimals."""
    price, quantity = INSTRUMENTS[symbol].price, INSTRUMENTS[symbol].quantity
    return [(str(price(ticks)), str(quantity(lots))) for ticks, lots in levels]
