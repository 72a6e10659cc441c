"""How the latest prices are kept in the cache: shared by the collector, which writes, and those who read."""

from collections.abc import Iterable

from pydantic import ValidationError

from app.events.prices import PriceTick
from app.kit import logs
from app.kit.cache import Cache

_LATEST = "prices:latest"
_log = logs.get(__name__)


async def write_latest(cache: Cache, ticks: Iterable[PriceTick]) -> None:
    """Keep the newest tick of each symbol; raises Unavailable."""
    await cache.write_hash(_LATEST, {tick.symbol: tick.model_dump_json().encode() for tick in ticks})


async def read_latest(cache: Cache) -> dict[str, PriceTick]:
    """The newest tick of each symbol, as far as it can be read; raises Unavailable."""
    found = await cache.read_hash(_LATEST)
    return {symbol: tick for symbol, value in found.items() if (tick := _tick(symbol, value)) is not None}


async def symbols_kept(cache: Cache) -> set[str]:
    """Symbols of which the cache keeps a tick, whether it can be read or not; raises Unavailable."""
    return set(await cache.read_hash(_LATEST))


async def read_latest_of(cache: Cache, symbol: str) -> PriceTick | None:
    """The newest tick of one symbol, or None; raises Unavailable."""
    value = await cache.read_field(_LATEST, symbol)
    return None if value is None else _tick(symbol, value)


def _tick(symbol: str, value: bytes) -> PriceTick | None:
    """None for what another version of the app has written: a cache may lack anything."""
    try:
        return PriceTick.model_validate_json(value)
    except ValidationError as error:
        _log.warning("unreadable price in the cache", symbol=symbol, reason=str(error.errors()[0]["msg"]))
        return None
