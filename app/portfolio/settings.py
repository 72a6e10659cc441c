"""What the environment says about the history of values."""

from typing import Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.kit.errors import ConfigurationError


class PortfolioSettings(BaseSettings):
    """Settings of the role `portfolio`, beside those that every role has."""

    model_config = SettingsConfigDict(env_prefix="APP_PORTFOLIO_", extra="ignore", frozen=True)

    value_minutes: int = Field(default=15, ge=1, le=1440)
    """Between two recorded values of an owner within a day."""
    point_days: int = Field(default=8, ge=8, le=366)
    """How long these are kept; the longest period that is answered from them has 7 days."""
    day_days: int = Field(default=1830, ge=366, le=36_600)
    """How long the values of whole days are kept."""

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read the environment; `overrides` win over it.

        Raises:
            ConfigurationError: names every variable that is wrong.
        """
        try:
            return cls(**overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            problems = (f"APP_PORTFOLIO_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
            raise ConfigurationError("\n".join(problems)) from None
