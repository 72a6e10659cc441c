"""Several feeds as one, each for its own symbols."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime

from app.kit import logs
from app.price_collector.feeds import Feed, Quote
from app.price_collector.feeds.common import Backoff, errors

_WAITING = 100
"""Batches that wait to be taken; then the feeds wait."""

_log = logs.get(__name__)


class CombinedFeed(Feed):
    """Quotes of all feeds as they come; one that fails is started again, the others go on.

    Time goes forward for every symbol, also where a feed follows another one whose clock was ahead.
    """

    def __init__(
        self,
        feeds: Mapping[str, Feed],
        newest: Mapping[str, datetime],
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`feeds` by name; `newest` is the time of each symbol's last tick that was published before."""
        self._feeds = dict(feeds)
        self._newest = dict(newest)
        self._pause = pause

    async def history(self) -> AsyncIterator[Sequence[Quote]]:
        """See `Feed`."""
        for feed in self._feeds.values():
            async for quotes in feed.history():
                yield self._in_order(quotes)

    async def stream(self) -> AsyncIterator[Sequence[Quote]]:
        """See `Feed`."""
        queue: asyncio.Queue[Sequence[Quote]] = asyncio.Queue(_WAITING)
        tasks = [asyncio.create_task(self._run(name, feed, queue)) for name, feed in self._feeds.items()]
        try:
            while True:
                yield self._in_order(await queue.get())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, name: str, feed: Feed, queue: asyncio.Queue[Sequence[Quote]]) -> None:
        backoff = Backoff(60.0)
        while True:
            try:
                stream: AsyncIterator[Sequence[Quote]] = feed.stream()
                async with aclosing(stream) as batches:  # type: ignore[type-var]
                    async for quotes in batches:
                        backoff.reset()
                        await queue.put(quotes)
            except Exception:
                errors.labels(name, "failed").inc()
                _log.exception("feed failed", feed=name)
            await self._pause(backoff.next())

    def _in_order(self, quotes: Sequence[Quote]) -> list[Quote]:
        ordered = []
        for quote in quotes:
            at = max(quote.at, self._newest.get(quote.symbol, quote.at))
            self._newest[quote.symbol] = at
            ordered.append(quote if at == quote.at else replace(quote, at=at))
        return ordered
