"""Price events."""

from typing import Annotated

from pydantic import AwareDatetime, Field

from app.events.registry import Payload, event

# Bounds of what is stored: an event beyond them would stop its consumers again and again.
Symbol = Annotated[str, Field(min_length=1, max_length=20)]
Positive = Annotated[int, Field(gt=0, lt=2**63)]


@event("price.updates")
class PriceTick(Payload):
    """The state of a symbol after a trade: a whole snapshot, so the newest one replaces all before."""

    symbol: Symbol
    epoch: str = Field(min_length=1, max_length=40)
    """Names one unbroken run of sequence numbers; another epoch means that the count began anew."""
    seq: Positive
    """Rises by one with every tick of the symbol within the epoch."""
    at: int = Field(ge=0, lt=10_000_000_000_000)
    """Unix time of the trade in milliseconds, before the year 2286."""
    price: Positive
    """Last price, in ticks like the other prices."""
    size: Positive
    """Quantity of the last trade in lots."""
    bid: Positive
    ask: Positive
    reference: Positive
    """Last price of the trading day before."""
    open: Positive
    high: Positive
    low: Positive
    volume: int = Field(ge=0, lt=2**63)
    """Lots traded in this trading day."""


@event("price-events")
class CandleClosed(Payload):
    """A one-minute candle that takes no further trades."""

    symbol: str
    start: AwareDatetime
    open: int
    high: int
    low: int
    close: int
    volume: int
    trades: int


@event("price-events")
class MarketOpen(Payload):
    """Trading in a symbol begins."""

    symbol: str


@event("price-events")
class MarketClose(Payload):
    """Trading in a symbol ends for the session."""

    symbol: str
