"""What the market data endpoints answer. Prices and quantities are decimal strings, times are UTC."""

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel, Field

from app.events.prices import PriceTick
from app.instruments import INSTRUMENTS, Calendar
from app.market_data.candles import Candle
from app.market_data.history import Place
from app.market_data.models import InstrumentRow


class Interval(StrEnum):
    """Length of a candle."""

    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    FIFTEEN_MINUTES = "15m"
    HOUR = "1h"
    FOUR_HOURS = "4h"
    DAY = "1d"

    @property
    def seconds(self) -> int:
        """Length in seconds."""
        return {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14400, "1d": 86400}[self.value]


class InstrumentView(BaseModel):
    """An instrument."""

    symbol: str
    name: str
    asset_class: str
    currency: str
    tick_size: Decimal
    lot_size: Decimal
    calendar: str
    open: bool = Field(description="Whether its market is open now.")

    @classmethod
    def of(cls, row: InstrumentRow) -> "InstrumentView":
        """From its row."""
        is_open = Calendar(row.calendar).is_open(datetime.now(UTC))
        return cls.model_validate(
            {**{k: v for k, v in vars(row).items() if k != "_sa_instance_state"}, "open": is_open}
        )


class TickerView(BaseModel):
    """Where an instrument stands."""

    symbol: str
    time: datetime
    price: Decimal
    bid: Decimal
    ask: Decimal
    open: Decimal
    high: Decimal
    low: Decimal
    reference: Decimal = Field(description="Last price of the trading day before.")
    change_percent: Decimal = Field(description="Change since the reference, two decimals.")
    volume: Decimal
    epoch: str
    seq: int

    @classmethod
    def of(cls, tick: PriceTick) -> "TickerView":
        """From the newest tick."""
        instrument = INSTRUMENTS[tick.symbol]
        change = Decimal(100 * (tick.price - tick.reference)) / tick.reference
        return cls(
            symbol=tick.symbol,
            time=datetime.fromtimestamp(tick.at / 1000, UTC),
            price=instrument.price(tick.price),
            bid=instrument.price(tick.bid),
            ask=instrument.price(tick.ask),
            open=instrument.price(tick.open),
            high=instrument.price(tick.high),
            low=instrument.price(tick.low),
            reference=instrument.price(tick.reference),
            change_percent=change.quantize(Decimal("0.01")),
            volume=instrument.quantity(tick.volume),
            epoch=tick.epoch,
            seq=tick.seq,
        )


class CandleView(BaseModel):
    """One candle."""

    start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int
    closed: bool = Field(description="False while trades may still be added.")

    @classmethod
    def of(cls, candle: Candle) -> "CandleView":
        """From ticks and lots."""
        instrument = INSTRUMENTS[candle.symbol]
        return cls(
            start=datetime.fromtimestamp(candle.start, UTC),
            open=instrument.price(candle.open),
            high=instrument.price(candle.high),
            low=instrument.price(candle.low),
            close=instrument.price(candle.close),
            volume=instrument.quantity(candle.volume),
            trades=candle.trades,
            closed=candle.closed,
        )


class PlaceView(BaseModel):
    """A tick of `price.updates` and of the stream `ticker`."""

    epoch: str
    seq: int

    @classmethod
    def of(cls, place: Place | None) -> "PlaceView | None":
        """From what is stored."""
        return None if place is None else cls(epoch=place.epoch, seq=place.seq)


class Direction(StrEnum):
    """Which end of a range a page is taken from."""

    BACKWARD = "backward"
    """The newest candles."""
    FORWARD = "forward"
    """The oldest candles."""


class Fill(StrEnum):
    """What stands for an interval without a trade."""

    NONE = "none"
    """Nothing."""
    PREVIOUS = "previous"
    """A candle at the last close, without volume."""


class CandlePage(BaseModel):
    """Candles, oldest first."""

    symbol: str
    interval: Interval
    candles: list[CandleView]
    previous: datetime | None = Field(
        description="Give it as `end` to get the page before; null when there is nothing before, or, "
        "paging backward, nothing from `start` on."
    )
    next: datetime | None = Field(
        description="Give it as `start`, with `direction=forward`, to get the page after; null when there is "
        "nothing after yet, or, paging forward, nothing from `end` on."
    )
    as_of: PlaceView | None = Field(
        description="The last tick that the newest candle of the symbol counts; null while none was counted."
    )


class RunningCandles(BaseModel):
    """The candle of each interval that takes trades now."""

    symbol: str
    as_of: PlaceView | None = Field(
        description="The last tick that they count: those behind it continue them exactly."
    )
    candles: dict[Interval, CandleView]
