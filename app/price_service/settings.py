"""What the environment says about the fan-out of prices."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from app.kit.role_settings import RoleSettings


class PriceServiceSettings(RoleSettings):
    """Settings of the role `price-service`, beside those that every role has (`APP_CLIENT_BUFFER_BYTES`)."""

    model_config = SettingsConfigDict(env_prefix="APP_")

    connections_per_client: int = Field(default=50, ge=0, le=1_000_000)
    """Open connections of one client address at this replica, beyond which handshakes are answered with 429;
    0 for any number. 50 is the platform's limit at its edge, too."""
    proxy_hops: int = Field(default=1, ge=0, le=5)
    """Own proxies between client and role, each of which adds to X-Forwarded-For. Where the header is missing
    the request came from inside, and the address of the connection counts."""
    connection_seconds: float = Field(default=3600.0, ge=0, le=604_800)
    """Age at which a connection is closed, more or less a fifth by chance, so that clients spread over new
    replicas; 0 for none. An hour is what the edge lets a connection last."""
    heartbeat_seconds: float = Field(default=15.0, ge=0.05, le=300)
    """Between two heartbeats of a connection; one that says nothing to three of them is ended."""
    stream_ring: int = Field(default=500, ge=0, le=100_000)
    """Messages of each stream that are kept for clients that come back: 50 s of a symbol that trades ten
    times a second."""
    private_ring_bytes: int = Field(default=1_048_576, ge=0, le=1_073_741_824)
    """Of the matching engine's output, for each symbol, kept for users that come back: about 2000 orders."""
    private_buffer_bytes: int = Field(default=1_048_576, ge=4096, le=268_435_456)
    """Unsent bytes beyond which a client with private channels is disconnected: these are never conflated."""
