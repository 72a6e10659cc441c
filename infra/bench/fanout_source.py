"""Publishes price ticks at a fixed rate, in steps like the simulated feed's, until SIGTERM.

Run as `python -m infra.bench.fanout_source`: a `Source` as JSON on standard input. It is a process of its own
so that neither servers nor clients delay it.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import uvloop

from app.events.envelope import Envelope
from app.events.prices import PriceTick
from app.instruments import INSTRUMENTS
from app.kit.bus import Record
from app.kit.bus.kafka import KafkaBus
from app.process import stop_on_signal
from infra.loadtest.arrival import until

_TOPIC = "price.updates"
STEP = 0.2
"""Seconds between two batches; the simulated feed moves the market as often."""


@dataclass(frozen=True)
class Source:
    """What to publish."""

    servers: str
    """Bootstrap servers of Kafka, `host:port`."""
    symbols: list[str]
    rate: float
    """Mean ticks a second of each symbol, at most one in a step."""
    seed: int = 1


def tick(symbol: str, epoch: str, seq: int, at: int) -> PriceTick:
    """The tick of a number: prices go up and down by a few ticks. `at` is Unix time in milliseconds."""
    instrument = INSTRUMENTS[symbol]
    first = instrument.ticks(instrument.start_price)
    price = first + seq % 50
    return PriceTick(
        symbol=symbol,
        epoch=epoch,
        seq=seq,
        at=at,
        price=price,
        size=seq % 90 + 10,
        bid=price - 1,
        ask=price + 1,
        reference=first,
        open=first,
        high=first + 49,
        low=first,
        volume=50 * seq,
    )


def batches(source: Source) -> Iterator[list[str]]:
    """The symbols that trade in each step: in all as many as the rate says, each as likely as the others."""
    pick = random.Random(source.seed)  # noqa: S311 - a repeatable load
    owed = 0.0
    while True:
        owed += source.rate * len(source.symbols) * STEP
        batch = pick.sample(source.symbols, min(int(owed), len(source.symbols)))
        owed -= len(batch)
        yield batch


async def publish(source: Source) -> None:
    """Publish until a signal comes; raises Unavailable when the bus takes no more."""
    bus, stopping = KafkaBus(source.servers, "bench-source"), stop_on_signal()
    epoch, seqs = f"bench-{time.time_ns()}", dict.fromkeys(source.symbols, 0)

    async def all_ticks() -> None:
        due = time.monotonic()
        for batch in batches(source):
            due += STEP
            await until(due)
            now, records = time.time_ns() // 1_000_000, []
            for symbol in batch:
                seqs[symbol] += 1
                made = tick(symbol, epoch, seqs[symbol], now)
                records.append(Record(symbol, Envelope.of(made, key=symbol, producer="bench").encode()))
            await bus.publish(_TOPIC, records)

    work, stop = asyncio.create_task(all_ticks()), asyncio.create_task(stopping.wait())
    await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        work.result()
    work.cancel()
    await bus.close()


def main() -> None:
    """Publish what standard input says."""
    uvloop.run(publish(Source(**json.load(sys.stdin))))


if __name__ == "__main__":
    main()
