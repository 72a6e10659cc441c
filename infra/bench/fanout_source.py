"""Publishes price ticks at a fixed rate, spread evenly over time, until SIGTERM.

Run as `python -m infra.bench.fanout_source`: a `Source` as JSON on standard input. It is a process of its own
so that neither servers nor clients delay it.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from itertools import count

import uvloop

from app.events.envelope import Envelope
from app.events.prices import PriceTick
from app.instruments import INSTRUMENTS
from app.kit.bus import Record
from app.kit.bus.kafka import KafkaBus
from app.process import stop_on_signal
from infra.loadtest.arrival import until

_TOPIC = "price.updates"


@dataclass(frozen=True)
class Source:
    """What to publish."""

    servers: str
    """Bootstrap servers of Kafka, `host:port`."""
    symbols: list[str]
    rate: float
    """Ticks a second of each symbol."""


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


async def publish(source: Source) -> None:
    """Publish until a signal comes; raises Unavailable when the bus takes no more."""
    bus, stopping = KafkaBus(source.servers, "bench-source"), stop_on_signal()
    epoch, begun = f"bench-{time.time_ns()}", time.monotonic()
    step = 1 / (source.rate * len(source.symbols))

    async def all_ticks() -> None:
        # A group, so that the next tick does not wait until the one before is stored, and none fails unseen.
        async with asyncio.TaskGroup() as publishing:
            for number in count():
                await until(begun + number * step)
                symbol = source.symbols[number % len(source.symbols)]
                made = tick(symbol, epoch, number // len(source.symbols) + 1, time.time_ns() // 1_000_000)
                record = Record(symbol, Envelope.of(made, key=symbol, producer="bench").encode())
                publishing.create_task(bus.publish(_TOPIC, [record]))

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
