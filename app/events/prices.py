"""Price events."""

from pydantic import AwareDatetime, Field

from app.events.registry import Payload, event


@event("price.updates")
class PriceTick(Payload):
    """The state of a symbol after a trade: a whole snapshot, so the newest one replaces all before."""

    symbol: str
    epoch: str
    """Names one unbroken run of sequence numbers; another epoch means that the count began anew."""
    seq: int = Field(ge=1)
    """Rises by one with every tick of the symbol within the epoch."""
    at: int = Field(ge=0)
    """Unix time of the trade in milliseconds."""
    price: int = Field(gt=0)
    """Last price, in ticks like the other prices."""
    size: int = Field(gt=0)
    """Quantity of the last trade in lots."""
    bid: int = Field(gt=0)
    ask: int = Field(gt=0)
    reference: int = Field(gt=0)
    """Last price of the trading day before."""
    open: int = Field(gt=0)
    high: int = Field(gt=0)
    low: int = Field(gt=0)
    volume: int = Field(ge=0)
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
