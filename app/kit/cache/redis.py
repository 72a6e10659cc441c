"""The cache on Redis or Valkey."""

from collections.abc import Awaitable, Mapping
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.kit.cache import Cache
from app.kit.errors import Unavailable

_SECONDS = 1.0


class RedisCache(Cache):
    """Answers within two seconds or raises `Unavailable`; reconnects by itself."""

    def __init__(self, url: str, password: str | None) -> None:
        options: dict[str, Any] = {"password": password} if password else {}
        self._redis = Redis.from_url(
            url,
            socket_timeout=_SECONDS,
            socket_connect_timeout=_SECONDS,
            health_check_interval=15,
            retry=Retry(NoBackoff(), retries=1),
            **options,
        )

    async def _answer(self, request: Any) -> Any:
        try:
            return await cast(Awaitable[Any], request)
        except (RedisError, OSError, TimeoutError) as error:
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
