"""Order books as others see them: what changed in the best price levels, and how a reader checks its copy."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal
from zlib import crc32

from pydantic import Field, WithJsonSchema

from app.events.matching import Number
from app.events.prices import Symbol
from app.events.registry import Payload, event

TOPIC: Final = "book.updates"
DEPTH: Final = 100
"""Price levels of each side that are published, counted from the best."""
CHECKED: Final = 10
"""Price levels of each side that the checksum covers (as in Kraken's book channel)."""
# Pydantic would tell of the two places by a word that AsyncAPI, which has JSON Schema draft 7, does not know.
_LEVEL_SCHEMA: Final[dict[str, Any]] = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**53},
    "minItems": 2,
    "maxItems": 2,
}
Level = Annotated[tuple[Number, Number], WithJsonSchema(_LEVEL_SCHEMA)]
"""Price in ticks, and all open lots at it."""


@event(TOPIC)
class BookUpdated(Payload):
    """The best 100 price levels of each side of a book, whole or as changes to what was told before."""

    symbol: Symbol
    epoch: str = Field(pattern=r"^[0-9]{1,19}$")
    """Term of the leader that tells it: a whole number, and a later leader has a larger one."""
    seq: Annotated[int, Field(gt=0, lt=2**53)]
    """Rises by one with every update of the symbol within the epoch; the first one is a snapshot. Where one
    could not be brought to the bus, the next one is a snapshot, too."""
    sequence: Number
    """Of the last change in the book, as in matching.output."""
    at: int = Field(ge=0, lt=10_000_000_000_000)
    """When the book was looked at: Unix time in milliseconds, before the year 2286."""
    kind: Literal["snapshot", "delta"]
    """A snapshot replaces all that was known of the book."""
    bids: tuple[Level, ...]
    """In a snapshot best first; in a delta in any order, the new quantity at a price, 0 where none is left or
    the level is no longer among the best 100."""
    asks: tuple[Level, ...]
    """As `bids`."""
    checksum: Annotated[int, Field(ge=0, lt=2**32)]
    """Of the book that results: docs/depth.md has the rule."""


def checksum(bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]]) -> int:
    """CRC-32 (the one of zlib and Ethernet) of the best ten asks and then the best ten bids.

    Both best first, in ticks and lots. What goes in is ASCII text: for each level the price and then the
    quantity as decimal digits, without anything between them.
    """
    levels = (*asks[:CHECKED], *bids[:CHECKED])
    return crc32("".join([f"{price}{quantity}" for price, quantity in levels]).encode())
