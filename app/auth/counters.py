"""Counts and marks that expire, in the cache: attempts to guess, and signatures that were seen.

Without the cache nobody logs in and no API key works (503): guessing must not become free in an outage.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from app.kit.cache.memory import MemoryCache
from app.kit.settings import Settings

V = TypeVar("V")
_SWEEP_AT = 10_000
"""Entries in memory at which expired ones are looked for."""


@dataclass(frozen=True)
class Limit:
    """How often something may be tried: `free` times, then with a pause that doubles each time."""

    name: str
    free: int
    first_pause: float
    """Seconds of the pause after attempt number `free`."""
    longest_pause: float
    forgotten_after: float
    """Seconds without an attempt after which the count begins anew; longer than the longest pause."""

    def pause(self, attempts: int) -> float:
        """Seconds to wait after so many attempts."""
        if attempts < self.free:
            return 0.0
        return float(min(self.first_pause * 2.0 ** min(attempts - self.free, 60), self.longest_pause))


class Counters(Protocol):
    """Every method raises `Unavailable` when the store does not answer. Times are Unix seconds."""

    async def attempt(self, limit: Limit, subject: str, now: float) -> float:
        """Count an attempt before it is made, so that attempts at the same time count, too.

        Returns the seconds to wait; when that is not 0, the attempt may not be made and was not counted.
        """

    async def forget(self, limit: Limit, subject: str) -> None:
        """Count anew."""

    async def take_back(self, limit: Limit, subject: str) -> None:
        """Count one attempt less."""

    async def first(self, mark: str, now: float, seconds: float) -> bool:
        """Set a mark for some seconds; False when it is set already."""

    async def ping(self) -> None:
        """Return when the store answers."""

    async def close(self) -> None:
        """Disconnect."""


class MemoryCounters(MemoryCache, Counters):
    """Within one process."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, tuple[int, float, float]] = {}
        self._marks: dict[str, float] = {}

    async def attempt(self, limit: Limit, subject: str, now: float) -> float:
        """See `Counters`."""
        name = counter_name(limit, subject)
        count, until, expires = self._counts.get(name, (0, 0.0, 0.0))
        if expires <= now:
            count, until = 0, 0.0
        if until > now:
            return until - now
        _sweep(self._counts, lambda entry: entry[2] <= now)
        pause = limit.pause(count + 1)
        self._counts[name] = (count + 1, now + pause if pause else 0.0, now + limit.forgotten_after)
        return 0.0

    async def forget(self, limit: Limit, subject: str) -> None:
        """See `Counters`."""
        self._counts.pop(counter_name(limit, subject), None)

    async def take_back(self, limit: Limit, subject: str) -> None:
        """See `Counters`."""
        name = counter_name(limit, subject)
        count, until, expires = self._counts.get(name, (0, 0.0, 0.0))
        if count:
            self._counts[name] = (count - 1, 0.0 if count <= limit.free else until, expires)

    async def first(self, mark: str, now: float, seconds: float) -> bool:
        """See `Counters`."""
        if self._marks.get(mark, 0.0) > now:
            return False
        _sweep(self._marks, lambda until: until <= now)
        self._marks[mark] = now + seconds
        return True


def _sweep(entries: dict[str, V], is_old: Callable[[V], bool]) -> None:
    if len(entries) >= _SWEEP_AT:
        for name in [name for name, entry in entries.items() if is_old(entry)]:
            del entries[name]


def counter_name(limit: Limit, subject: str) -> str:
    """Name of a count in the store."""
    return f"auth:{limit.name}:{subject}"


def make_counters(settings: Settings) -> Counters:
    """The counters in the cache of APP_CACHE_URL."""
    if str(settings.cache_url).startswith("redis"):
        from app.auth.redis_counters import RedisCounters

        return RedisCounters(str(settings.cache_url), settings.password("cache_password"))
    return MemoryCounters()
