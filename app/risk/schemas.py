"""What the endpoints of risk take and answer. Times are UTC."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.risk.limits import (
    LARGEST_BPS,
    LARGEST_LOTS,
    LARGEST_MONEY,
    LARGEST_RATE,
    Values,
)
from app.risk.models import AuditRow, SwitchRow
from app.wallet.ledger.assets import ASSETS, LARGEST

Amount = Annotated[str, Field(description="Decimal, exact.", examples=["12.5"])]
Owner = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[\x21-\x7e]+$")]
Reason = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^\P{C}+$", description="Why; for the audit.")
]
_Money = Annotated[
    int | None,
    Field(
        ge=0,
        le=LARGEST_MONEY,
        strict=True,
        description="Whole units of the quote currency; yen count a hundredth.",
    ),
]
_Rate = Annotated[int | None, Field(ge=0, le=LARGEST_RATE, strict=True)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LimitsBody(_Request):
    """Limits of a scope; what is left out is left to the next wider scope."""

    position: int | None = Field(default=None, ge=0, le=LARGEST_LOTS, strict=True, description="Lots.")
    order_notional: _Money = None
    open_notional: _Money = None
    collar_bps: int | None = Field(default=None, ge=0, le=LARGEST_BPS, strict=True)
    order_rate: _Rate = None
    order_burst: _Rate = None
    daily_loss: _Money = None
    reason: Reason

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if all(value is None for value in asdict(self.values()).values()):
            raise ValueError("at least one limit; DELETE removes all of a scope")
        return self

    def values(self) -> Values:
        """As they are kept."""
        return Values(**self.model_dump(exclude={"reason"}))


class LimitsView(BaseModel):
    """What is set for a scope; null is left to the next wider one."""

    scope: str = Field(examples=["default", "user/17/symbol/BTC-USD"])
    position: int | None
    order_notional: int | None
    open_notional: int | None
    collar_bps: int | None
    order_rate: int | None
    order_burst: int | None
    daily_loss: int | None


class LimitsPage(BaseModel):
    """What is set, by scope; `defaults` holds where nothing is."""

    defaults: LimitsView
    limits: list[LimitsView]
    next: str | None = Field(description="Give it as `after` to get the page after; null at the end.")


class SwitchBody(_Request):
    """Whether new orders are refused."""

    active: bool = Field(strict=True)
    reason: Reason


class SwitchView(BaseModel):
    """A kill switch."""

    scope: str = Field(examples=["all", "symbol/BTC-USD", "user/17"])
    active: bool
    reason: str | None
    actor: str | None
    since: datetime | None

    @classmethod
    def of(cls, scope: str, row: SwitchRow | None) -> "SwitchView":
        """From its row; there is none while it is off."""
        if row is None:
            return cls(scope=scope, active=False, reason=None, actor=None, since=None)
        return cls(scope=scope, active=True, reason=row.reason, actor=row.actor, since=time_of(row.since))


class AuditView(BaseModel):
    """A change that an operator, or the platform itself, made."""

    id: int
    at: datetime
    actor: str
    subject: str
    before: dict[str, object] | None
    after: dict[str, object] | None
    reason: str

    @classmethod
    def of(cls, row: AuditRow) -> "AuditView":
        """From its row."""
        return cls(
            id=row.id,
            at=time_of(row.at),
            actor=row.actor,
            subject=row.subject,
            before=None if row.before is None else json.loads(row.before),
            after=None if row.after is None else json.loads(row.after),
            reason=row.reason,
        )


class AuditPage(BaseModel):
    """Changes, the newest first."""

    changes: list[AuditView]
    next: int | None = Field(description="Give it as `before` to get the page after; null at the end.")


class SymbolUse(BaseModel):
    """A user's limits in a symbol, and how much of them is used."""

    symbol: str
    position: int = Field(description="Net lots that trades made.")
    open_buy: int = Field(description="Lots of open orders.")
    open_sell: int
    position_limit: int
    order_notional: int = Field(description="Whole units of the quote currency.")
    collar_bps: int


class CurrencyUse(BaseModel):
    """A user's limits of money in a quote currency, and how much of them is used."""

    currency: str
    open_notional: Amount
    open_notional_limit: Amount
    day_result: Amount = Field(description="Profit since 00:00 UTC, realised and not; negative for a loss.")
    daily_loss_limit: Amount


class MarginCallView(BaseModel):
    """A margin call that needs an answer."""

    id: int
    state: str
    deadline: datetime
    equity: Amount
    required: Amount


class MarginAnswer(BaseModel):
    """Worth of everything a user has against what they owe, in US dollars."""

    assets: Amount
    collateral: Amount = Field(description="Assets after haircuts.")
    debt: Amount
    equity: Amount = Field(description="Collateral less debt.")
    ratio_ppm: int | None = Field(description="Equity in millionths of the debt; null without debt.")
    initial_ppm: int
    maintenance_ppm: int
    unpriced: list[str] = Field(description="Assets without a price; they count nothing.")
    call: MarginCallView | None


class OwnView(BaseModel):
    """A user's own limits and how much of them is used."""

    order_rate: int
    order_burst: int
    kill_switch: str | None
    symbols: list[SymbolUse]
    currencies: list[CurrencyUse]
    margin: MarginAnswer | None = Field(description="Null while a price of what is owed is not known.")


class CheckBody(_Request):
    """What an owner wants: a loan or a withdrawal."""

    owner: Owner
    asset: Literal[*ASSETS]  # type: ignore[valid-type]
    amount: int = Field(gt=0, le=LARGEST, strict=True, description="Smallest units.")


class CheckAnswer(BaseModel):
    """Whether margin allows it."""

    allowed: bool
    reason: str = Field(description="Empty when it is allowed.")


def time_of(milliseconds: int) -> datetime:
    """Unix milliseconds as a time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def text(asset: str, units: int) -> str:
    """Smallest units of an asset as a decimal."""
    return ASSETS[asset].text(units)
