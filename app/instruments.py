"""The instruments that are traded, with exact conversion between ticks and decimals."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from zoneinfo import ZoneInfo

_NEW_YORK = ZoneInfo("America/New_York")


class AssetClass(StrEnum):
    """What kind of thing is traded."""

    CRYPTO = "crypto"
    EQUITY = "equity"
    FX = "fx"


class Calendar(StrEnum):
    """When an instrument can be traded."""

    ALWAYS = "24x7"
    US_EQUITIES = "us-equities"
    """Monday to Friday, 09:30 to 16:00 New York time."""
    FX = "fx"
    """Sunday 17:00 to Friday 17:00 New York time; a day ends at 17:00."""

    def is_open(self, at: datetime) -> bool:
        """Whether there is trading at a moment (with time zone)."""
        if self is Calendar.ALWAYS:
            return True
        local = at.astimezone(_NEW_YORK)
        if self is Calendar.US_EQUITIES:
            return local.weekday() < 5 and time(9, 30) <= local.time() < time(16)
        return (local + timedelta(hours=7)).weekday() < 5

    def trading_day(self, at: datetime) -> date:
        """The day whose statistics a trade at this moment belongs to."""
        if self is Calendar.ALWAYS:
            return at.astimezone(ZoneInfo("UTC")).date()
        local = at.astimezone(_NEW_YORK)
        return (local + timedelta(hours=7)).date() if self is Calendar.FX else local.date()


@dataclass(frozen=True)
class Instrument:
    """One instrument. Prices are whole ticks and quantities whole lots everywhere but at the edges."""

    symbol: str
    name: str
    asset_class: AssetClass
    currency: str
    tick_size: Decimal
    lot_size: Decimal
    calendar: Calendar
    start_price: Decimal
    """Where the simulated feed begins."""
    volatility: float
    """Of the simulated feed: standard deviation of a year's logarithmic return."""

    def price(self, ticks: int) -> Decimal:
        """Ticks as a decimal price."""
        return ticks * self.tick_size

    def quantity(self, lots: int) -> Decimal:
        """Lots as a decimal quantity."""
        return lots * self.lot_size

    def ticks(self, price: Decimal) -> int:
        """A decimal price as whole ticks.

        Raises:
            ValueError: the price is no multiple of the tick size.
        """
        ticks, rest = divmod(price, self.tick_size)
        if rest:
            raise ValueError(f"{self.symbol}: price {price} is no multiple of the tick size {self.tick_size}")
        return int(ticks)


def _crypto(symbol: str, name: str, tick: str, lot: str, start: str, volatility: float) -> Instrument:
    return Instrument(
        symbol,
        name,
        AssetClass.CRYPTO,
        "USD",
        Decimal(tick),
        Decimal(lot),
        Calendar.ALWAYS,
        Decimal(start),
        volatility,
    )


def _equity(symbol: str, name: str, start: str, volatility: float) -> Instrument:
    return Instrument(
        symbol,
        name,
        AssetClass.EQUITY,
        "USD",
        Decimal("0.01"),
        Decimal(1),
        Calendar.US_EQUITIES,
        Decimal(start),
        volatility,
    )


def _fx(symbol: str, name: str, tick: str, start: str, volatility: float) -> Instrument:
    return Instrument(
        symbol,
        name,
        AssetClass.FX,
        symbol[-3:],
        Decimal(tick),
        Decimal(1000),
        Calendar.FX,
        Decimal(start),
        volatility,
    )


INSTRUMENTS: dict[str, Instrument] = {
    instrument.symbol: instrument
    for instrument in (
        _crypto("BTC-USD", "Bitcoin", "0.01", "0.00001", "64250.00", 0.55),
        _crypto("ETH-USD", "Ethereum", "0.01", "0.0001", "3180.00", 0.70),
        _crypto("SOL-USD", "Solana", "0.01", "0.001", "148.20", 0.90),
        _crypto("XRP-USD", "XRP", "0.0001", "0.1", "0.5840", 0.85),
        _crypto("ADA-USD", "Cardano", "0.0001", "0.1", "0.4470", 0.85),
        _crypto("DOGE-USD", "Dogecoin", "0.00001", "1", "0.12480", 1.00),
        _crypto("AVAX-USD", "Avalanche", "0.01", "0.01", "36.40", 0.95),
        _crypto("LINK-USD", "Chainlink", "0.001", "0.01", "14.320", 0.85),
        _equity("AAPL", "Apple", "189.50", 0.28),
        _equity("MSFT", "Microsoft", "421.30", 0.26),
        _equity("NVDA", "NVIDIA", "121.80", 0.50),
        _equity("AMZN", "Amazon", "184.60", 0.32),
        _equity("GOOGL", "Alphabet", "175.20", 0.30),
        _equity("META", "Meta Platforms", "504.70", 0.38),
        _equity("TSLA", "Tesla", "246.90", 0.58),
        _equity("JPM", "JPMorgan Chase", "198.40", 0.24),
        _fx("EUR-USD", "Euro / US dollar", "0.00001", "1.08450", 0.075),
        _fx("GBP-USD", "Pound sterling / US dollar", "0.00001", "1.27120", 0.085),
        _fx("USD-JPY", "US dollar / Japanese yen", "0.001", "151.250", 0.10),
        _fx("USD-CHF", "US dollar / Swiss franc", "0.00001", "0.89640", 0.075),
        _fx("AUD-USD", "Australian dollar / US dollar", "0.00001", "0.66230", 0.10),
        _fx("EUR-GBP", "Euro / pound sterling", "0.00001", "0.85310", 0.055),
    )
}
"""Every instrument by symbol."""
