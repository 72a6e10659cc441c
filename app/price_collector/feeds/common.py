"""What the feeds from outside share: metrics, exact conversion, pauses between attempts."""

import random
import re
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from enum import Enum
from fractions import Fraction

from prometheus_client import Counter, Gauge

from app.price_collector.feeds import Feed, Quote

connected = Gauge("feed_connected", "1 while a feed has what it needs to tell prices", ["feed"])
reconnects = Counter("feed_reconnects_total", "Connections of a feed after its first one", ["feed"])
errors = Counter("feed_errors_total", "What a feed could not use or get, by reason", ["feed", "reason"])

_NUMBER = re.compile(r"\d{1,20}(\.\d{1,20})?", re.ASCII)
_LIMIT = 2**63


class Rounding(Enum):
    """How a price between two ticks becomes one of them."""

    NEAREST = "nearest"
    """For trades and quantities; a half goes to the even neighbour."""
    DOWN = "down"
    """For bids: a market is never shown narrower than it is."""
    UP = "up"
    """For asks."""


def whole(text: str, unit: Decimal, rounding: Rounding = Rounding.NEAREST) -> int:
    """A decimal number as a count of `unit` (tick or lot size), at least 1: what is less is shown as one.

    Exact but for the one rounding; sources may have finer ticks than the instrument.

    Raises:
        ValueError: it is no plain positive decimal number, or not below 2**63 units.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError("no decimal number")
    exact = Fraction(text) / Fraction(unit)
    if not 0 < exact < _LIMIT - 1:
        raise ValueError("not positive or too large")
    match rounding:
        case Rounding.NEAREST:
            count = round(exact)
        case Rounding.DOWN:
            count = exact.numerator // exact.denominator
        case Rounding.UP:
            count = -(-exact.numerator // exact.denominator)
    return max(1, count)


class Backoff:
    """Seconds to wait before the next attempt: random, the upper end doubles from 2 s to `longest`."""

    def __init__(self, longest: float, seed: int | None = None) -> None:
        self._random = random.Random(seed)  # noqa: S311 - spreads attempts, keeps no secret
        self._longest = longest
        self._failures = 0

    def next(self) -> float:
        """At least a second, so that a feed stays below one connection a second."""
        self._failures += 1
        return self._random.uniform(1.0, min(self._longest, 2.0 ** min(self._failures, 30)))

    def reset(self) -> None:
        """The last attempt was a success."""
        self._failures = 0


class LiveFeed(Feed):
    """Parent of feeds that know nothing of the past."""

    async def history(self) -> AsyncIterator[Sequence[Quote]]:
        """Yields nothing."""
        nothing: tuple[Sequence[Quote], ...] = ()
        for quotes in nothing:
            yield quotes
