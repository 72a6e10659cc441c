"""What the environment says about the history of prices."""

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from app.kit.role_settings import RoleSettings


class MarketDataSettings(RoleSettings):
    """Settings of the role `market-data`, beside those that every role has."""

    model_config = SettingsConfigDict(env_prefix="APP_MARKET_")

    minute_days: int = Field(default=90, ge=7, le=3650)
    """How long candles of a minute are kept at least, for whole months go; 5m and 15m are made of them."""
    hour_days: int = Field(default=730, ge=31, le=36500)
    """How long candles of an hour are kept at least; 4h is made of them. Those of a day stay for ever."""

    @model_validator(mode="after")
    def _longer_candles_stay_longer(self) -> Self:
        if self.hour_days < self.minute_days:
            raise ValueError(
                f"APP_MARKET_HOUR_DAYS={self.hour_days}: at least APP_MARKET_MINUTE_DAYS, "
                f"which is {self.minute_days}"
            )
        return self
