"""The cache within one process."""

from collections import defaultdict
from collections.abc import Mapping

from app.kit.cache import Cache


class MemoryCache(Cache):
    """A dictionary behind the cache's interface."""

    def __init__(self) -> None:
        self._hashes: defaultdict[str, dict[str, bytes]] = defaultdict(dict)

    async def read_hash(self, name: str) -> dict[str, bytes]:
        """See `Cache`."""
        return dict(self._hashes[name])

    async def read_field(self, name: str, field: str) -> bytes | None:
        """See `Cache`."""
        return self._hashes[name].get(field)

    async def write_hash(self, name: str, fields: Mapping[str, bytes]) -> None:
        """See `Cache`."""
        self._hashes[name].update(fields)

    async def ping(self) -> None:
        """See `Cache`."""

    async def close(self) -> None:
        """See `Cache`."""
