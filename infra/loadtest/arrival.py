"""When requests are due: decided before anything answers, so that a slow target cannot slow the load."""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

MAX_COUNT = 5_000_000
"""Requests or messages of one run: every latency is kept, 12 bytes each, and sorted at the end."""


class Arrival(StrEnum):
    """How requests follow each other."""

    FIXED = "fixed"
    """Evenly spaced."""
    POISSON = "poisson"
    """Independent of each other, as those of many users are."""


async def until(due: float) -> float:
    """Wait for a moment of the monotonic clock; how many seconds late it is then, never early."""
    while (pause := due - time.monotonic()) > 0:  # noqa: ASYNC110 - timers may end a little early
        await asyncio.sleep(pause)
    return -pause


@dataclass(frozen=True)
class Schedule:
    """An open loop, bounded in time and count; the same schedule gives the same moments."""

    rate: float
    """Requests a second."""
    seconds: float
    count: int = MAX_COUNT
    arrival: Arrival = Arrival.FIXED
    seed: int = 1

    def offsets(self) -> Iterator[float]:
        """Seconds after the beginning at which requests are due, ascending."""
        if self.arrival is Arrival.FIXED:
            for number in range(min(round(self.rate * self.seconds), self.count)):
                yield number / self.rate
            return
        gaps = random.Random(self.seed)  # noqa: S311 - a repeatable load
        at = gaps.expovariate(self.rate)
        for _ in range(self.count):
            if at >= self.seconds:
                return
            yield at
            at += gaps.expovariate(self.rate)
