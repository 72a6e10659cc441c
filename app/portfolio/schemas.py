"""What the endpoints of the portfolio answer. Numbers are decimal strings, times are UTC.

Profit and loss is at average cost and before fees.
"""

from datetime import UTC, datetime
from decimal import Decimal, localcontext
from enum import StrEnum
from fractions import Fraction
from typing import Annotated

from pydantic import BaseModel, Field

from app.instruments import INSTRUMENTS, Instrument
from app.portfolio.repository import Entry, Held, Kind, Value
from app.portfolio.valuation import Balance, Price, Totals
from app.wallet.ledger.assets import ASSETS, notional

Amount = Annotated[str, Field(description="Decimal, exact.", examples=["12.5"])]
_AVERAGE_PLACES = 4
"""Decimal places of an average price beyond those of the instrument's prices."""


class Period(StrEnum):
    """How far a history reaches back."""

    DAY = "1d"
    WEEK = "1w"
    MONTH = "1m"
    QUARTER = "3m"
    YEAR = "1y"
    ALL = "all"

    @property
    def days(self) -> int | None:
        """Length; None for all."""
        return {"1d": 1, "1w": 7, "1m": 31, "3m": 92, "1y": 366, "all": None}[self.value]

    @property
    def kind(self) -> Kind:
        """Which values make it: up to a week those within the days, else one for each day."""
        return "point" if self in (Period.DAY, Period.WEEK) else "day"


class PositionView(BaseModel):
    """What somebody holds of an instrument through trades."""

    symbol: str
    currency: str
    quantity: Amount = Field(description="Negative when short.")
    cost: Amount = Field(description="Of the open quantity; when short, what its sale brought, negative.")
    average_price: str | None = Field(
        description="Of the open quantity, to four places more than prices have; null when closed."
    )
    mark: str | None = Field(description="Last price; null when none is known.")
    mark_age: float | None = Field(description="Seconds since that trade.")
    market_value: Amount | None
    unrealised: Amount | None
    realised: Amount = Field(description="By all trades so far, before fees.")
    trades: int
    changed_at: datetime

    @classmethod
    def of(cls, symbol: str, held: Held, mark: int | None, age: float | None) -> "PositionView":
        """From a stored position, valued at `mark` ticks that are `age` seconds old."""
        instrument, position = INSTRUMENTS[symbol], held.position
        return cls(
            symbol=symbol,
            currency=instrument.currency,
            quantity=_plain(instrument.quantity(position.lots)),
            cost=_amount(instrument, position.cost),
            average_price=_average(instrument, position.average),
            mark=None if mark is None else f"{instrument.price(mark):f}",
            mark_age=None if age is None else round(age, 3),
            market_value=None if mark is None else _amount(instrument, position.value(mark)),
            unrealised=None if mark is None else _amount(instrument, position.unrealised(mark)),
            realised=_amount(instrument, position.realised),
            trades=held.entries,
            changed_at=_time(held.changed_at),
        )


class BalanceView(BaseModel):
    """Funds of one asset, as the ledger has them."""

    asset: str
    available: Amount
    held: Amount = Field(description="Set aside for orders and withdrawals.")
    borrowed: Amount = Field(description="Owed.")
    value: Amount | None = Field(
        description="Worth of available and held without borrowed, rounded down; null without a mark."
    )
    currency: str = Field(description="Of the value: a currency is worth itself.")

    @classmethod
    def of(cls, balance: Balance, price: Price) -> "BalanceView":
        """From the ledger's accounts."""
        asset = ASSETS[balance.asset]
        value = balance.value(price)
        return cls(
            asset=balance.asset,
            available=asset.text(balance.available),
            held=asset.text(balance.held),
            borrowed=asset.text(balance.borrowed),
            value=None if value is None else ASSETS[balance.currency].text(value),
            currency=balance.currency,
        )


class TotalsView(BaseModel):
    """Sums in one currency; nothing is converted between currencies."""

    currency: str
    cash: Amount = Field(description="Available and held.")
    borrowed: Amount
    holdings: Amount = Field(description="Worth of assets that are no currency.")
    equity: Amount = Field(description="Cash and holdings without what is borrowed.")
    market_value: Amount = Field(description="Of positions, which are no part of equity: funds have moved.")
    unrealised: Amount
    realised: Amount
    unpriced: list[str] = Field(description="Symbols without a price, whose worth is in no sum.")

    @classmethod
    def of(cls, sums: Totals) -> "TotalsView":
        """From smallest units."""
        text = ASSETS[sums.currency].text
        return cls(
            currency=sums.currency,
            cash=text(sums.cash),
            borrowed=text(sums.borrowed),
            holdings=text(sums.holdings),
            equity=text(sums.equity),
            market_value=text(sums.market_value),
            unrealised=text(sums.unrealised),
            realised=text(sums.realised),
            unpriced=sums.unpriced,
        )


class PortfolioView(BaseModel):
    """All of it at one moment."""

    time: datetime
    totals: list[TotalsView]
    positions: list[PositionView] = Field(description="Those that are open.")
    balances: list[BalanceView]


class PositionEntryView(BaseModel):
    """A trade of a position, and the position after it."""

    number: int
    time: datetime
    trade_id: str
    order_id: str
    side: str
    liquidity: str = Field(description="`maker` or `taker`.")
    price: Amount
    quantity: Amount
    realised: Amount = Field(description="By this trade, before its fee.")
    fee: Amount | None = Field(description="What the wallet charged; null until the trade is settled.")
    position_quantity: Amount
    position_cost: Amount

    @classmethod
    def of(cls, entry: Entry, fee: int | None) -> "PositionEntryView":
        """From a stored entry and the fee in smallest units."""
        instrument = INSTRUMENTS[entry.symbol]
        return cls(
            number=entry.number,
            time=_time(entry.at),
            trade_id=str(entry.trade_id),
            order_id=str(entry.order_id),
            side=entry.side,
            liquidity=entry.liquidity,
            price=f"{instrument.price(entry.price):f}",
            quantity=_plain(instrument.quantity(entry.quantity)),
            realised=_amount(instrument, entry.gained),
            fee=None if fee is None else ASSETS[instrument.currency].text(fee),
            position_quantity=_plain(instrument.quantity(entry.lots)),
            position_cost=_amount(instrument, entry.cost),
        )


class PositionHistory(BaseModel):
    """Trades of a position, the newest first."""

    symbol: str
    entries: list[PositionEntryView]
    next: int | None = Field(description="Give it as `before` to get the page after; null at the end.")


class ValuePoint(BaseModel):
    """What funds in one currency were worth."""

    time: datetime
    cash: Amount = Field(description="Without what was borrowed.")
    holdings: Amount
    equity: Amount
    realised: Amount = Field(description="By all trades until then.")
    unrealised: Amount

    @classmethod
    def of(cls, value: Value) -> "ValuePoint":
        """From a stored value."""
        text = ASSETS[value.currency].text
        return cls(
            time=_time(value.at),
            cash=text(value.cash),
            holdings=text(value.holdings),
            equity=text(value.cash + value.holdings),
            realised=text(value.realised),
            unrealised=text(value.unrealised),
        )


class ValueHistoryView(BaseModel):
    """Values over time, oldest first."""

    period: Period
    currency: str
    values: list[ValuePoint]


class ProfitView(BaseModel):
    """Profit and loss of one instrument."""

    symbol: str
    currency: str
    realised: Amount


class ProfitTotal(BaseModel):
    """Profit and loss in one currency."""

    currency: str
    realised: Amount


class ProfitReport(BaseModel):
    """What was realised from `start` to before `end`, before fees (see the entries of a position)."""

    start: datetime | None
    end: datetime | None
    symbols: list[ProfitView]
    totals: list[ProfitTotal]

    @classmethod
    def of(cls, start: datetime | None, end: datetime | None, realised: dict[str, int]) -> "ProfitReport":
        """From what was realised by symbol, in ticks times lots."""
        sums: dict[str, int] = {}
        for symbol, amount in realised.items():
            instrument = INSTRUMENTS[symbol]
            sums[instrument.currency] = sums.get(instrument.currency, 0) + notional(instrument, 1, amount)
        return cls(
            start=start,
            end=end,
            symbols=[
                ProfitView(
                    symbol=symbol,
                    currency=INSTRUMENTS[symbol].currency,
                    realised=_amount(INSTRUMENTS[symbol], amount),
                )
                for symbol, amount in realised.items()
            ],
            totals=[
                ProfitTotal(currency=currency, realised=ASSETS[currency].text(amount))
                for currency, amount in sorted(sums.items())
            ],
        )


def _amount(instrument: Instrument, amount: int) -> str:
    """Ticks times lots as a decimal of the quote currency, exact."""
    return ASSETS[instrument.currency].text(notional(instrument, 1, amount))


def _average(instrument: Instrument, ticks: Fraction | None) -> str | None:
    if ticks is None:
        return None
    step = instrument.tick_size.scaleb(-_AVERAGE_PLACES)
    with localcontext(prec=60):
        exact = instrument.tick_size * ticks.numerator / ticks.denominator
        return _plain(exact.quantize(Decimal(1).scaleb(int(step.as_tuple().exponent))))


def _plain(number: Decimal) -> str:
    """No exponent, no needless zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
