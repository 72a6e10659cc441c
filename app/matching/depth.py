"""Tells everybody what the order books look like: the best levels, as changes, at a pace of its own.

A worker beside the writer, which it costs nothing: from time to time it looks which books have another
sequence than before. Books change by whole committed groups only, so whatever it finds is committed. Nothing
waits for it: when the bus is away, what was not brought to it is made up for by a snapshot of each book
concerned.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from app.events.books import DEPTH, TOPIC, BookUpdated, Level, checksum
from app.events.envelope import Envelope
from app.exchange.book import OrderBook
from app.kit import logs
from app.kit.bus import Bus, Record
from app.kit.errors import Unavailable
from app.matching import metrics
from app.matching.books import Books
from app.matching.translate import PRODUCER

Levels = tuple[Level, ...]
_LONGEST_PAUSE: Final = 2.0
"""Seconds between two attempts during an outage of the bus."""
_log = logs.get(__name__)


@dataclass(slots=True)
class _Told:
    """What was published of one book last."""

    seq: int = 0
    """0 before the first publication."""
    sequence: int = 0
    at: int = 0
    bids: Levels = ()
    asks: Levels = ()
    lost: bool = False
    """Whether it is not known that the last publication is on the bus."""


class BookPublisher:
    """Publishes the books of one term; the term's token is the epoch.

    `pace` is the time in seconds from one look at the books to the next, `clock` tells Unix milliseconds.
    """

    def __init__(self, bus: Bus, token: int, books: Books, pace: float, clock: Callable[[], int]) -> None:
        self._bus = bus
        self._epoch = str(token)
        self._books = books
        self._pace = pace
        self._clock = clock
        self._told = {symbol: _Told() for symbol in books.engines}

    def published(self) -> list[BookUpdated]:
        """Every book as it was published last, as a snapshot; nothing of those that were not yet."""
        return [
            self._update(symbol, told, "snapshot", told.bids, told.asks)
            for symbol, told in self._told.items()
            if told.seq
        ]

    async def run(self) -> None:
        """Publish until cancelled, every book at first; an outage of the bus is waited for."""
        pause = self._pace
        while True:
            begun = time.monotonic()
            pause = self._pace if await self.turn() else min(pause * 2, _LONGEST_PAUSE)
            await asyncio.sleep(max(begun + pause - time.monotonic(), 0))

    async def turn(self) -> bool:
        """Publish what changed since the last turn; whether the bus took it."""
        updates: list[BookUpdated] = []
        records: list[Record] = []
        try:
            for symbol, engine in self._books.engines.items():
                told = self._told[symbol]
                if told.sequence == engine.book.sequence and told.seq and not told.lost:
                    continue
                update = self._look(symbol, engine.book, told)
                if update is not None:
                    updates.append(update)
                    records.append(_record(update))
                # The writer goes first: it never waits for more than one book.
                await asyncio.sleep(0)
            if records:
                await self._bus.publish(TOPIC, records)
        except Exception as error:
            # Whatever is wrong here must not end the leader.
            if isinstance(error, Unavailable):
                _log.warning("books wait for the bus", reason=str(error), books=len(updates))
            else:
                _log.exception("books are not published")
            return False
        for update in updates:
            self._told[update.symbol].lost = False
            metrics.book_updates.labels(update.kind).inc()
        return True

    def _look(self, symbol: str, book: OrderBook, told: _Told) -> BookUpdated | None:
        """What to publish of a book now, noted as told; None when nothing among the best levels changed."""
        bids, asks = tuple(book.bids.depth(DEPTH)), tuple(book.asks.depth(DEPTH))
        whole = told.lost or not told.seq
        changed_bids, changed_asks = difference(told.bids, bids), difference(told.asks, asks)
        told.sequence = book.sequence
        if not whole and not changed_bids and not changed_asks:
            return None
        told.seq += 1
        told.lost = True  # until the bus has it
        told.at, told.bids, told.asks = self._clock(), bids, asks
        if whole:
            return self._update(symbol, told, "snapshot", bids, asks)
        return self._update(symbol, told, "delta", changed_bids, changed_asks)

    def _update(
        self, symbol: str, told: _Told, kind: Literal["snapshot", "delta"], bids: Levels, asks: Levels
    ) -> BookUpdated:
        # What the engine made itself needs no checks, which would cost more than all the rest.
        return BookUpdated.model_construct(
            symbol=symbol,
            epoch=self._epoch,
            seq=told.seq,
            sequence=told.sequence,
            at=told.at,
            kind=kind,
            bids=bids,
            asks=asks,
            checksum=checksum(told.bids, told.asks),
        )


def difference(before: Levels, after: Levels) -> Levels:
    """What makes `after` of `before`: what is new or other than before, and with 0 the levels that left."""
    if before == after:
        return ()
    now = {price for price, _ in after}
    old = set(before)
    changed = [level for level in after if level not in old]
    return (*changed, *[(price, 0) for price, _ in before if price not in now])


def _record(update: BookUpdated) -> Record:
    name = f"book:{update.symbol}:{update.epoch}-{update.seq}"
    envelope = Envelope.of(update, key=update.symbol, producer=PRODUCER, id=name)
    return Record(envelope.key, envelope.encode())
