"""What the environment says about the matching engine."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from app.kit.role_settings import RoleSettings


class MatchingSettings(RoleSettings):
    """Settings of the role `matching-engine`, beside those that every role has."""

    model_config = SettingsConfigDict(env_prefix="APP_MATCHING_")

    advertised_address: str | None = Field(
        default=None, validation_alias="APP_ADVERTISED_ADDRESS", pattern=r"^https?://[^/\s]+$", max_length=200
    )
    """Base URL by which other roles reach this replica; by default that of the machine's own address."""
    lease_seconds: float = Field(default=3.0, ge=0.5, le=60)
    """After this a leader that is cut off is replaced; it renews its lease three times as often."""
    most_waiting: int = Field(default=4000, ge=1, le=100_000)
    """Commands that may wait for the writer; more are answered with 503 `overloaded`."""
    most_unpublished: int = Field(default=50_000, ge=1, le=1_000_000)
    """Commands that may be committed but not yet on the bus; then nothing more is taken."""
    book_seconds: float = Field(default=0.1, ge=0.05, le=10)
    """Between two looks at the order books for what is published of them: Binance's fastest depth stream."""
    snapshot_commands: int = Field(default=50_000, ge=1)
    """Commands after which a snapshot is taken."""
    snapshot_seconds: float = Field(default=300.0, ge=1)
    """Time after which a snapshot is taken when anything changed."""
    keep_days: float = Field(default=7.0, ge=0)
    """How long journal and snapshots are kept for followers that have to begin anew."""
