"""Where prices come from: a feed is anything that yields quotes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Quote:
    """One trade and the market around it, in ticks and lots."""

    symbol: str
    at: datetime
    price: int
    size: int
    bid: int
    ask: int


class Feed(Protocol):
    """A source of quotes. Reconnecting is the feed's own business; an error it raises restarts it."""

    def history(self) -> AsyncIterator[Sequence[Quote]]:
        """Quotes of the past, oldest first, for a platform that knows no price yet."""

    def stream(self) -> AsyncIterator[Sequence[Quote]]:
        """Quotes as they happen, without end."""
