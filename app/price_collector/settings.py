"""What the environment says about the price collector, beside its feeds."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from app.kit.role_settings import RoleSettings


class CollectorSettings(RoleSettings):
    """Settings of the role `price-collector`, beside those that every role has."""

    model_config = SettingsConfigDict(env_prefix="APP_COLLECTOR_")

    lease_seconds: float = Field(default=3.0, ge=0.5, le=60)
    """After this a leader that is cut off or dead is replaced; it renews its lease three times as often. The
    same as the matching engine's: without orders, prices are worth little, and the other way round."""
