"""Sends orders over HTTP at a fixed rate, whatever the answers do, and times each from when it was due.

Run as `python -m infra.bench.order_load`: a `Load` as JSON on standard input, the `Outcome` on standard
output. It is a process of its own so that its processor time can be told from that of what it measures.
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import uvloop

from infra.errors import TradestackError
from infra.loadtest.arrival import Schedule
from infra.loadtest.http import HttpLoad
from infra.loadtest.orders import OrderRequests


@dataclass(frozen=True)
class Load:
    """What to send."""

    url: str
    """Base URL of the role `order`."""
    tokens: list[str]
    """Access tokens of the users, who take turns."""
    markets: dict[str, tuple[str, str, str]]
    """Symbol → middle price, tick size and lot size."""
    rate: float
    """Orders a second."""
    seconds: float
    connections: int = 500
    seed: int = 1
    run: str = "run"
    """Part of the client order ids: unique among runs."""


@dataclass
class Outcome:
    """What came back."""

    latencies_ms: list[float]
    """From the moment an order was due to the end of its answer."""
    statuses: dict[str, int]
    acknowledged: list[int]
    """Order ids."""
    late_starts: int
    """Orders that waited for a free connection."""
    seconds: float


async def send(load: Load) -> Outcome:
    """Send a load.

    Raises:
        TradestackError: an order has no answer after a minute.
    """
    acknowledged: list[int] = []

    def answered(status: str, body: bytes) -> None:
        if status == "201":
            acknowledged.append(int(json.loads(body)["order_id"]))

    origin = urlsplit(load.url)
    run = HttpLoad(
        origin,
        OrderRequests(origin.netloc, load.tokens, load.markets, seed=load.seed, run=load.run),
        Schedule(load.rate, load.seconds),
        connections=load.connections,
        answered=answered,
    )
    await run.run(asyncio.Event())
    if run.unanswered:
        raise TradestackError(f"{run.unanswered} orders have no answer")
    return Outcome(run.latencies.ms.tolist(), run.statuses, acknowledged, run.late_starts, run.seconds)


def main() -> None:
    """Run the load of standard input."""
    given: dict[str, Any] = json.load(sys.stdin)
    outcome = uvloop.run(send(Load(**given)))
    json.dump(asdict(outcome), sys.stdout)


if __name__ == "__main__":
    main()
