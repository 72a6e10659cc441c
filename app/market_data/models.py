"""Tables of market data."""

from sqlalchemy import BigInteger, Boolean, String
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.database import Base


class InstrumentRow(Base):
    """An instrument; decimals are kept as text, exactly as written."""

    __tablename__ = "instruments"

    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    asset_class: Mapped[str] = mapped_column(String(20))
    currency: Mapped[str] = mapped_column(String(3))
    tick_size: Mapped[str] = mapped_column(String(20))
    lot_size: Mapped[str] = mapped_column(String(20))
    calendar: Mapped[str] = mapped_column(String(20))


class _Candle:
    """Columns of a candle. `start` is Unix time in seconds, prices are ticks, `volume` is lots."""

    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    open: Mapped[int] = mapped_column(BigInteger)
    high: Mapped[int] = mapped_column(BigInteger)
    low: Mapped[int] = mapped_column(BigInteger)
    close: Mapped[int] = mapped_column(BigInteger)
    volume: Mapped[int] = mapped_column(BigInteger)
    trades: Mapped[int] = mapped_column(BigInteger)
    closed: Mapped[bool] = mapped_column(Boolean)


class CandleRow(_Candle, Base):
    """A candle of one minute. On PostgreSQL the table is partitioned by month, see `partitions`."""

    __tablename__ = "candles"


class HourRow(_Candle, Base):
    """A candle of one hour, made of those of its minutes; partitioned like them."""

    __tablename__ = "candle_hours"


class DayRow(_Candle, Base):
    """A candle of one day (UTC), made of those of its hours."""

    __tablename__ = "candle_days"


class ProgressRow(Base):
    """The last tick of a symbol and epoch that the candles contain."""

    __tablename__ = "candle_progress"

    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
    epoch: Mapped[str] = mapped_column(String(40), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)


class PlaceRow(Base):
    """The tick of a symbol that was taken into the candles last."""

    __tablename__ = "candle_places"

    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
    epoch: Mapped[str] = mapped_column(String(40))
    seq: Mapped[int] = mapped_column(BigInteger)
