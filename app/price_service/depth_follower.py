"""Where the channel `depth` comes from: the bus, and the matching engine for what cannot be continued."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from app.events.books import TOPIC, BookUpdated
from app.events.reading import payloads
from app.instruments import INSTRUMENTS
from app.kit import logs
from app.kit.bus import Bus, Subscription
from app.kit.errors import Unavailable
from app.matching_client.commands import PublishedBooks
from app.price_service.depth import Depth
from app.price_service.streams import GATHER

_BATCH: Final = 1000
_FIRST_PAUSE: Final = 0.5
"""Seconds between two questions to the engine, doubled for as long as something is missing."""
_LONGEST_PAUSE: Final = 10.0
_DEPOSED_SECONDS: Final = 10.0
"""A leader that was replaced without knowing it answers no longer than a lease lasts, which is 3 s."""
_log = logs.get(__name__)


class DepthFollower:
    """Follows `book.updates`; `ask` gets the published books from the leader, see `MatchingClient.books`.

    Prices do not wait for books: a replica is ready without them, and clients get them when they are there.
    """

    def __init__(self, bus: Bus, ask: Callable[[], Awaitable[PublishedBooks]], depth: Depth) -> None:
        self._bus = bus
        self._ask = ask
        self._depth = depth
        self._newest = 0
        """Largest epoch that was seen."""
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled; raises Unavailable when the bus does not answer any more."""
        subscription = await self._bus.subscribe([TOPIC], None)
        # Whatever was told before is only in the engine's answer. The place on the bus is fixed by now.
        self._depth.lose(INSTRUMENTS, "start")
        tasks = {asyncio.create_task(work) for work in (self._follow(subscription), self._recover())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await subscription.close()

    async def _follow(self, subscription: Subscription) -> None:
        while True:
            found = list(payloads(await subscription.batch(_BATCH, seconds=1.0, gather=GATHER), BookUpdated))
            self._newest = max((self._newest, *(int(update.epoch) for update in found)))
            self._depth.take(found)
            if self._depth.lost:
                self._news.set()

    async def _recover(self) -> None:
        """Ask the engine for what is lost, as long as anything is."""
        while True:
            while not self._depth.lost:
                self._news.clear()
                await self._news.wait()
            pause, since = _FIRST_PAUSE, time.monotonic()
            while True:
                try:
                    self._load((await self._ask()).books, time.monotonic() - since)
                except Unavailable as error:
                    _log.warning("books wait for the engine", reason=str(error), books=len(self._depth.lost))
                await asyncio.sleep(pause)
                if not self._depth.lost:
                    break
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _load(self, books: Sequence[BookUpdated], asked_for: float) -> None:
        """Take an answer after `asked_for` seconds of asking, unless it is that of a leader of old."""
        newest = max((int(book.epoch) for book in books), default=self._newest)
        if newest < self._newest and asked_for < _DEPOSED_SECONDS:
            _log.warning("books of a leader that was replaced", epoch=newest, newest=self._newest)
            return
        self._newest = newest
        self._depth.load(books)
