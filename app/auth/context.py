"""What the services of the role `auth` share, and what the environment says."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.auth import keys
from app.auth.counters import Counters, make_counters
from app.auth.passwords import Passwords
from app.auth.repository import AuthRepository
from app.auth.throttle import Throttle
from app.auth.tokens import Issuer
from app.kit.database import Database
from app.kit.errors import ConfigurationError
from app.kit.runtime import Runtime


class AuthSettings(BaseSettings):
    """Settings of the role `auth`, beside those that every role has."""

    model_config = SettingsConfigDict(env_prefix="APP_", extra="ignore", frozen=True)

    proxy_hops: int = Field(default=1, ge=0, le=5)
    """Own proxies between client and role, each of which adds to X-Forwarded-For: 1 with the gateway alone,
    2 with Envoy before it."""


@dataclass(frozen=True)
class AuthContext:
    """One for each process of the role."""

    database: Database
    repository: AuthRepository
    counters: Counters
    throttle: Throttle
    passwords: Passwords
    signing: keys.KeyRing
    box: keys.SecretBox
    issuer: Issuer
    clock: Callable[[], float]
    proxy_hops: int

    @classmethod
    def of(cls, runtime: Runtime, clock: Callable[[], float] = time.time) -> "AuthContext":
        """Connect what the role needs.

        Raises:
            ConfigurationError: a secret or a setting is missing or wrong; the message names it.
        """
        try:
            settings = AuthSettings()
        except ValidationError as error:
            wrong = error.errors()[0]
            raise ConfigurationError(f"APP_PROXY_HOPS={wrong['input']!r}: {wrong['msg']}") from None
        signing = keys.KeyRing(keys.reader(runtime.settings, keys.SIGNING_KEY))
        box = keys.SecretBox(keys.reader(runtime.settings, keys.ENCRYPTION_KEY))
        database, counters = runtime.backends.database, make_counters(runtime.settings)
        return cls(
            database=database,
            repository=AuthRepository(database),
            counters=counters,
            throttle=Throttle(counters, clock),
            passwords=Passwords(),
            signing=signing,
            box=box,
            issuer=Issuer(signing, clock),
            clock=clock,
            proxy_hops=settings.proxy_hops,
        )

    @property
    def now(self) -> int:
        """Unix time in seconds."""
        return int(self.clock())

    async def close(self) -> None:
        """Disconnect."""
        self.passwords.close()
        await self.counters.close()
