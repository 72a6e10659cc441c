"""What the environment says about limits and margin."""

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from app.kit.role_settings import RoleSettings
from app.risk.limits import DEFAULTS, LARGEST_BPS, LARGEST_MONEY, LARGEST_RATE, Values

_MILLION = 1_000_000


class RiskSettings(RoleSettings):
    """Settings of pre-trade checks and margin, the same in the roles `risk` and `matching-engine`."""

    model_config = SettingsConfigDict(env_prefix="APP_RISK_")

    order_notional: int = Field(default=DEFAULTS.order_notional or 0, ge=0, le=LARGEST_MONEY)
    """Defaults of limits, see `app.risk.limits.Values`; an operator's settings go before them."""
    open_notional: int = Field(default=DEFAULTS.open_notional or 0, ge=0, le=LARGEST_MONEY)
    collar_bps: int = Field(default=DEFAULTS.collar_bps or 0, ge=0, le=LARGEST_BPS)
    order_rate: int = Field(default=DEFAULTS.order_rate or 0, ge=0, le=LARGEST_RATE)
    order_burst: int = Field(default=DEFAULTS.order_burst or 0, ge=0, le=LARGEST_RATE)
    daily_loss: int = Field(default=DEFAULTS.daily_loss or 0, ge=0, le=LARGEST_MONEY)
    initial_margin_ppm: int = Field(default=500_000, ge=0, le=10 * _MILLION)
    """Equity that a new loan or a withdrawal has to leave, in millionths of the debt. The default of 50 % is
    that of Regulation T of the Federal Reserve (12 CFR 220.12), which asks it of the position instead of the
    debt."""
    maintenance_margin_ppm: int = Field(default=250_000, ge=1, le=10 * _MILLION)
    """Equity below which a margin call goes out, in millionths of the debt. The default of 25 % is the number
    of FINRA rule 4210(c)."""
    haircut_fx_ppm: int = Field(default=20_000, ge=0, lt=_MILLION)
    """What is taken off the worth of an asset as collateral, in millionths; US dollars count whole. The
    defaults of 2 %, 15 % and 25 % are this platform's choice: about three days of the instruments' usual
    movement, after the order of the supervisory haircuts of Basel III (CRE22)."""
    haircut_equity_ppm: int = Field(default=150_000, ge=0, lt=_MILLION)
    haircut_crypto_ppm: int = Field(default=250_000, ge=0, lt=_MILLION)
    margin_call_seconds: int = Field(default=300, ge=1, le=86_400)
    """How long an owner has to answer a margin call."""
    urgent_call_seconds: int = Field(default=30, ge=0, le=86_400)
    """The same when the equity is below half of what maintenance asks for."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.maintenance_margin_ppm > self.initial_margin_ppm:
            raise ValueError("the maintenance margin is at most the initial margin")
        return self

    @property
    def defaults(self) -> Values:
        """The limits that hold where nobody set others."""
        return Values(
            order_notional=self.order_notional,
            open_notional=self.open_notional,
            collar_bps=self.collar_bps,
            order_rate=self.order_rate,
            order_burst=self.order_burst,
            daily_loss=self.daily_loss,
        )
