"""What the environment says about fees, withdrawals and the checks of the books."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from app.kit.role_settings import RoleSettings
from app.wallet.fees import FeeSchedule
from app.wallet.ledger.assets import ASSETS

_Bps = Annotated[Decimal, Field(ge=0, le=1000, decimal_places=2)]


class WalletSettings(RoleSettings):
    """Settings of the role `wallet`, beside those that every role has."""

    model_config = SettingsConfigDict(env_prefix="APP_WALLET_")

    maker_fee_bps: _Bps = Decimal(10)
    """Fee of the order that rested, in basis points of the notional; at most two decimal places."""
    taker_fee_bps: _Bps = Decimal(20)
    """Fee of the order that met it."""
    unproved_limits: dict[str, Decimal] = Field(default_factory=dict)
    """Asset → what a user may withdraw in 24 hours without a second factor, as JSON such as `{"USD": "100"}`.
    Nothing of an asset that is not named."""
    loan_rate_bps: int = Field(default=800, ge=0, le=10_000)
    """Interest of margin loans in basis points a year, see `app.wallet.loans`. The default of 8 % is this
    platform's choice, of the order of what brokers ask for small margin loans."""
    kyc_required: bool = False
    """Whether only users whose identity is verified may withdraw."""
    risk_check: bool = True
    """Whether the role `risk` is asked before funds are lent or leave; off only in tests."""
    reconcile_seconds: float = Field(default=300.0, ge=1, le=86_400)
    """Between two reconciliations."""

    @field_validator("unproved_limits")
    @classmethod
    def _are_amounts(cls, value: dict[str, Decimal]) -> dict[str, Decimal]:
        for asset, amount in value.items():
            if asset not in ASSETS or amount < 0:
                raise ValueError(f"{asset}: an amount of one of {', '.join(ASSETS)}")
            ASSETS[asset].units(amount)
        return value

    @property
    def fees(self) -> FeeSchedule:
        """The rates that new orders get."""
        return FeeSchedule(int(self.maker_fee_bps * 100), int(self.taker_fee_bps * 100))

    def unproved_limit(self, asset: str) -> int:
        """What may leave in 24 hours without a second factor, in smallest units."""
        return ASSETS[asset].units(self.unproved_limits.get(asset, Decimal(0)))
