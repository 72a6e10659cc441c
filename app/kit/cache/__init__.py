"""The cache: fast shared state that may be lost."""

from collections.abc import Mapping
from typing import Protocol


class Cache(Protocol):
    """Named hashes of bytes. Every method raises `Unavailable` when the store does not answer."""

    async def read_hash(self, name: str) -> dict[str, bytes]:
        """All fields; empty when there is no such hash."""

    async def read_field(self, name: str, field: str) -> bytes | None:
        """One field of a hash, or None."""

    async def write_hash(self, name: str, fields: Mapping[str, bytes]) -> None:
        """Set these fields and keep the others."""

    async def ping(self) -> None:
        """Return when the store answers."""

    async def close(self) -> None:
        """Disconnect."""
