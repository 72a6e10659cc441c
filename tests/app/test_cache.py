"""What every cache adapter promises."""

from uuid import uuid4

import pytest

from app.kit.cache import Cache
from app.kit.cache.redis import RedisCache
from app.kit.errors import Unavailable
from tests.servers.process import free_port


@pytest.fixture
def name() -> str:
    return f"test:{uuid4()}"


async def test_a_hash_that_was_never_written_is_empty(cache: Cache, name: str) -> None:
    assert await cache.read_hash(name) == {}
    assert await cache.read_field(name, "a") is None


async def test_writing_keeps_other_fields(cache: Cache, name: str) -> None:
    await cache.write_hash(name, {"a": b"1", "b": b"\xff\x00"})
    await cache.write_hash(name, {"a": b"2"})
    assert await cache.read_hash(name) == {"a": b"2", "b": b"\xff\x00"}
    assert await cache.read_field(name, "b") == b"\xff\x00"


async def test_writing_nothing_is_allowed(cache: Cache, name: str) -> None:
    await cache.write_hash(name, {})
    await cache.ping()
    assert await cache.read_hash(name) == {}


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    cache = RedisCache(f"redis://127.0.0.1:{free_port()}/0", None)
    with pytest.raises(Unavailable, match="cache is unavailable"):
        await cache.ping()
    await cache.close()
