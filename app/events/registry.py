"""The one list of event families, their topics and the schemas of what travels in them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from app.kit.bus import Topic

_HOUR = 3600
_DAY = 24 * _HOUR


class Payload(BaseModel):
    """Parent of every payload. What old readers cannot take gets a new version beside the old one."""

    model_config = ConfigDict(frozen=True, extra="ignore")


@dataclass(frozen=True)
class Family:
    """A topic and the events that it carries."""

    topic: Topic
    summary: str
    key: str
    """What the events are ordered by."""
    schemas: dict[tuple[str, int], type[Payload]] = field(default_factory=dict)


def _family(name: str, summary: str, key: str, *, partitions: int = 6, retention: int = 7 * _DAY) -> Family:
    return Family(Topic(name, partitions, retention), summary, key)


FAMILIES: dict[str, Family] = {
    family.topic.name: family
    for family in (
        _family("price.updates", "Every change of a price", "symbol", retention=_HOUR),
        _family("book.updates", "The best price levels of the order books", "symbol", retention=_HOUR),
        _family("matching.output", "All that the matching engine decided, in order", "symbol"),
        _family("order-events", "The life of orders", "symbol"),
        _family("trade-events", "Executions and settlements", "symbol"),
        _family("price-events", "Candles and market sessions", "symbol", retention=_DAY),
        _family("portfolio-events", "Positions and their worth", "account"),
        _family("wallet-events", "Deposits, withdrawals and holds", "account"),
        _family("risk-events", "Margin calls and limits", "account"),
        _family("notification-events", "Messages to people", "user", partitions=3),
        _family("user-events", "Registration and verification", "user", partitions=3),
    )
}
"""Every family by topic name."""

_names: dict[type[Payload], tuple[str, int]] = {}
_topics: dict[str, str] = {}
P = TypeVar("P", bound=Payload)


def event(topic: str, version: int = 1) -> Callable[[type[P]], type[P]]:
    """Register a payload class in the family of `topic`; its name without V2, V3… is the event's type."""

    def register(schema: type[P]) -> type[P]:
        name = schema.__name__.removesuffix(f"V{version}")
        if (name, version) in FAMILIES[topic].schemas or _topics.get(name, topic) != topic:
            raise ValueError(f"event {name} version {version} is registered twice")
        FAMILIES[topic].schemas[name, version] = schema
        _names[schema] = name, version
        _topics[name] = topic
        return schema

    return register


def name_of(schema: type[Payload]) -> tuple[str, int]:
    """Type and version of a payload class."""
    return _names[schema]


def topic_of(type_: str) -> str:
    """Topic that events of a type travel in."""
    return _topics[type_]


def schema_of(type_: str, version: int) -> type[Payload]:
    """Payload class of a type and version; KeyError when there is none."""
    return FAMILIES[_topics[type_]].schemas[type_, version]
