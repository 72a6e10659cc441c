"""What the environment says about the history of values."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from app.kit.role_settings import RoleSettings


class PortfolioSettings(RoleSettings):
    """Settings of the role `portfolio`, beside those that every role has."""

    model_config = SettingsConfigDict(env_prefix="APP_PORTFOLIO_")

    value_minutes: int = Field(default=15, ge=1, le=1440)
    """Between two recorded values of an owner within a day."""
    point_days: int = Field(default=8, ge=8, le=366)
    """How long these are kept; the longest period that is answered from them has 7 days."""
    day_days: int = Field(default=1830, ge=366, le=36_600)
    """How long the values of whole days are kept."""
