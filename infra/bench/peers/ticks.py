"""What the peers share with the price-service: the same ticks from the same bus, as the same text."""

from collections.abc import AsyncIterator

import orjson

from app.events.prices import PriceTick
from app.events.reading import payloads
from app.kit.bus.kafka import KafkaBus
from app.price_service.frames import body

_TOPIC = "price.updates"
_BATCH = 1000


async def ticks(servers: str) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Batches of (symbol, message), oldest first; the first one is empty and says that the place is fixed.

    `servers` are the bootstrap servers of Kafka, `host:port`.
    """
    bus = KafkaBus(servers, "bench-peer")
    subscription = await bus.subscribe([_TOPIC], None)
    try:
        yield []
        while True:
            received = payloads(await subscription.batch(_BATCH, seconds=1.0), PriceTick)
            yield [(tick.symbol, orjson.dumps({"type": "tick", **body(tick)})) for tick in received]
    finally:
        await subscription.close()


def subscribed(request: str | bytes) -> tuple[list[str], str]:
    """The symbols that a client asks for, and the answer.

    Raises:
        ValueError: it is no subscription.
    """
    asked = orjson.loads(request)
    if (
        not isinstance(asked, dict)
        or asked.get("op") != "subscribe"
        or not isinstance(asked["symbols"], list)
    ):
        raise ValueError("the first message is a subscription")
    return asked["symbols"], orjson.dumps({"type": "subscribed", "symbols": asked["symbols"]}).decode()
