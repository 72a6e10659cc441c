"""What the environment says: variables with the prefix APP_ and secret files."""

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.kit.errors import ConfigurationError
from app.roles import ROLES

_SECRETS_DIR = "/run/secrets/tradestack"
_PASSWORDS = ("database_password", "cache_password", "internal_token", "alpha_vantage_key")
_FEED = "(simulated|exchange|binance|alpha-vantage)"


class Settings(BaseSettings):
    """Settings of one process. Passwords come as files named `app_<field>` in APP_SECRETS_DIR."""

    model_config = SettingsConfigDict(env_prefix="APP_", extra="ignore", frozen=True)

    database_url: str | None = Field(default=None, pattern=r"^(postgresql\+asyncpg|sqlite\+aiosqlite)://")
    """SQLAlchemy URL without the password."""
    bus_url: str | None = Field(default=None, pattern=r"^(memory://|kafka://[^/,:\s]+:\d+(,[^/,:\s]+:\d+)*$)")
    """`memory://`, or `kafka://` and the bootstrap servers `host:port`, separated by commas."""
    bus_security: Literal["plaintext", "msk-iam"] = "plaintext"
    """How the brokers know this process: not at all, or by its AWS role over TLS (Amazon MSK, port 9098)."""
    aws_region: str | None = Field(default=None, pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", validate_default=True)
    """AWS region of the brokers, such as `us-east-1`; `msk-iam` needs it."""
    cache_url: str | None = Field(default=None, pattern=r"^(memory://|rediss?://)")
    """`memory://`, `redis://…` or `rediss://…`; with `?cluster=true` the server is a cluster of shards."""
    database_password: SecretStr | None = None
    cache_password: SecretStr | None = None
    internal_token: SecretStr | None = Field(default=None, min_length=32)
    """What roles send to each other's internal endpoints, see `app.kit.internal`."""
    revision: str | None = Field(default=None, pattern=r"^[\w.-]{1,64}$")
    """Content hash of the image, for people to see which one a process runs."""
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached by its address
    port: int | None = Field(default=None, ge=0, le=65535)
    """Overrides the port of the role table; 0 takes a free one."""
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Overrides the metrics port of the role table, which counts only where `port` is not overridden."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
    feed: str = Field(default="simulated", pattern=rf"^{_FEED}(,{_FEED})*$")
    """Where prices come from: feeds by precedence; a symbol belongs to the first one that has it."""
    feed_binance_url: str = Field(default="wss://data-stream.binance.vision", pattern=r"^wss?://[^/?#\s]+$")
    """The endpoint that Binance documents for market data alone."""
    feed_alpha_vantage_url: str = Field(
        default="https://www.alphavantage.co", pattern=r"^https?://[^/?#@\s]+$"
    )
    feed_alpha_vantage_per_minute: int = Field(default=5, ge=1, le=1200)
    """Requests; 5 is what Alpha Vantage's answers to free keys have named, paid plans begin at 75."""
    feed_alpha_vantage_per_day: int = Field(default=25, ge=1, le=2_000_000)
    """Requests; 25 is what Alpha Vantage's answers to free keys name since 2024, paid plans have no limit."""
    alpha_vantage_key: SecretStr | None = None
    feed_seed: int = 7
    """Seed of the simulated feed."""
    feed_rate: float = Field(default=2.0, gt=0, le=50)
    """Mean updates per second of each tradable symbol."""
    feed_history_minutes: int = Field(default=180, ge=0, le=1440)
    """Minutes of simulated past that are published when the cache knows no price yet."""
    client_buffer_bytes: int = Field(default=65536, ge=1024)
    """Unsent bytes after which a price client counts as slow and its ticks are conflated."""
    _upstreams: dict[str, str] = PrivateAttr(default_factory=dict)
    _password_files: dict[str, Path] = PrivateAttr(default_factory=dict)

    @field_validator("aws_region")
    @classmethod
    def _has_region(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("bus_security") == "msk-iam":
            raise ValueError("APP_BUS_SECURITY=msk-iam needs the region of the brokers, such as us-east-1")
        return value

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read the environment; `overrides` win over it.

        Raises:
            ConfigurationError: names every variable that is wrong and what is allowed.
        """
        secrets = Path(os.environ.get("APP_SECRETS_DIR", _SECRETS_DIR))
        try:
            settings = cls(_secrets_dir=secrets if secrets.is_dir() else None, **overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            problems = (
                f"APP_{str(e['loc'][0]).upper()}={_without_password(repr(e['input']))}: {e['msg']}"
                for e in error.errors()
            )
            raise ConfigurationError("\n".join(problems)) from None
        for name in ROLES:
            address = os.environ.get(f"APP_UPSTREAM_{name.upper().replace('-', '_')}")
            if address:
                settings._upstreams[name] = address
        given = {name.lower() for name in os.environ} | {f"app_{name}" for name in overrides}
        for name in _PASSWORDS:
            file = secrets / f"app_{name}"
            if f"app_{name}" not in given and file.is_file():
                settings._password_files[name] = file
        return settings

    def password(
        self, name: Literal["database_password", "cache_password", "internal_token", "alpha_vantage_key"]
    ) -> Callable[[], str | None]:
        """A function that tells the password as it is now.

        A password that came as a file is read again each time: rotation changes the file under a running
        process. While the file cannot be read, the last value stands.
        """
        value: SecretStr | None = getattr(self, name)
        known = value.get_secret_value() if value else None
        file = self._password_files.get(name)

        def read() -> str | None:
            nonlocal known
            if file is not None:
                with contextlib.suppress(OSError):
                    known = file.read_text().strip()
            return known

        return read

    def upstream(self, role: str) -> str:
        """Base URL of another role: APP_UPSTREAM_<ROLE>, else its Service and port."""
        return self._upstreams.get(role, f"http://{role}:{ROLES[role].port}")


def _without_password(text: str) -> str:
    """`text` fit for a log, whoever put a password into an address."""
    return re.sub(r"(://[^/@\s]*:)[^/@\s]+@", r"\1***@", text)
