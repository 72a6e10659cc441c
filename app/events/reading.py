"""Reading payloads of one class from bus messages."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from prometheus_client import Counter
from pydantic import ValidationError

from app.events.envelope import Envelope
from app.events.registry import Payload, name_of
from app.kit import logs
from app.kit.bus import Message

P = TypeVar("P", bound=Payload)
_log = logs.get(__name__)
_unreadable = Counter(
    "events_unreadable_total", "Messages that were skipped because they are no event", ["topic"]
)


def payloads(messages: Iterable[Message], schema: type[P]) -> Iterator[P]:
    """The payloads of one class in order; passes over other events, logs and counts what is no event."""
    wanted = name_of(schema)
    for message in messages:
        try:
            event = Envelope.decode(message.value)
            if (event.type, event.version) == wanted:
                yield schema.model_validate(event.payload)
        except ValidationError as error:
            _unreadable.labels(message.topic).inc()
            _log.error(
                "unreadable", topic=message.topic, offset=message.offset, reason=str(error.errors()[0]["msg"])
            )
