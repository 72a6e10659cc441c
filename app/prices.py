"""How the latest prices are kept in the cache: shared by the collector, which writes, and those who read."""

from collections.abc import Iterable

from app.events.prices import PriceTick
from app.kit.cache import Cache

_LATEST = "prices:latest"


async def write_latest(cache: Cache, ticks: Iterable[PriceTick]) -> None:
    """Keep the newest tick of each symbol; raises Unavailable."""
    await cache.write_hash(_LATEST, {tick.symbol: tick.model_dump_json().encode() for tick in ticks})


async def read_latest(cache: Cache) -> dict[str, PriceTick]:
    """The newest tick of each symbol; raises Unavailable."""
    found = await cache.read_hash(_LATEST)
    return {symbol: PriceTick.model_validate_json(value) for symbol, value in found.items()}


async def read_latest_of(cache: Cache, symbol: str) -> PriceTick | None:
    """The newest tick of one symbol, or None; raises Unavailable."""
    value = await cache.read_field(_LATEST, symbol)
    return None if value is None else PriceTick.model_validate_json(value)
