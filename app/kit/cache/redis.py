"""The cache on Redis or Valkey, alone, replicated or as a cluster of shards."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisClusterException, RedisError

from app.kit.cache import Cache
from app.kit.errors import Unavailable

_SECONDS = 1.0
_ANSWER_SECONDS = 2.0


class _Password(CredentialProvider):
    """Asked for every new connection, so that a rotated password needs no restart."""

    def __init__(self, read: Callable[[], str | None]) -> None:
        self._read = read

    def get_credentials(self) -> tuple[str]:
        return (self._read() or "",)

    async def get_credentials_async(self) -> tuple[str]:
        return self.get_credentials()


class RedisCache(Cache):
    """Answers within two seconds or raises `Unavailable`; reconnects by itself.

    `rediss://` means TLS, checked against the system's certificate authorities. `?cluster=true` means a
    cluster of shards, in which the address is only where the client begins to ask.
    """

    def __init__(self, url: str, password: str | Callable[[], str | None] | None) -> None:
        address, clustered = _address(url)
        options: dict[str, Any] = {
            "socket_timeout": _SECONDS,
            "socket_connect_timeout": _SECONDS,
            "health_check_interval": 15,
            "retry": Retry(NoBackoff(), retries=1),
        }
        if isinstance(password, str):
            options["password"] = password
        elif password is not None and password() is not None:
            options["credential_provider"] = _Password(password)
        self._redis: Redis | RedisCluster = (
            RedisCluster.from_url(address, **options) if clustered else Redis.from_url(address, **options)
        )

    async def _answer(self, request: Any) -> Any:
        try:
            # A cluster client may try several nodes, each with a timeout of its own.
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await cast(Awaitable[Any], request)
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            raise Unavailable("cache", error) from error

    async def read_hash(self, name: str) -> dict[str, bytes]:
        """See `Cache`."""
        found = await self._answer(self._redis.hgetall(name))
        return {key.decode(): value for key, value in found.items()}

    async def read_field(self, name: str, field: str) -> bytes | None:
        """See `Cache`."""
        return cast(bytes | None, await self._answer(self._redis.hget(name, field)))

    async def write_hash(self, name: str, fields: Mapping[str, bytes]) -> None:
        """See `Cache`."""
        if fields:
            await self._answer(self._redis.hset(name, mapping=cast(Any, fields)))

    async def ping(self) -> None:
        """See `Cache`."""
        await self._answer(self._redis.ping())

    async def close(self) -> None:
        """See `Cache`."""
        await self._redis.aclose()


def _address(url: str) -> tuple[str, bool]:
    """The address without `cluster`, and what `cluster` says."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    clustered = query.pop("cluster", "false").lower() == "true"
    return parts._replace(query=urlencode(query)).geturl(), clustered
