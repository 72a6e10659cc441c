"""What every cache adapter promises, and what the one for Redis promises besides."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from app.kit.cache import Cache
from app.kit.cache.redis import RedisCache
from app.kit.errors import Unavailable
from infra.servers import backing
from infra.servers.backing import RedisCluster
from infra.servers.process import ServerProcess, answers, free_port
from tests.app.certificates import write_certificates


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


@pytest.mark.usefixtures("patient_cache")
async def test_a_cluster_keeps_what_belongs_to_every_shard(redis_cluster: RedisCluster) -> None:
    names = [f"test:{uuid4()}" for _ in range(50)]  # the chance that one of three shards gets none: 2e-9
    writer = RedisCache(redis_cluster.url, redis_cluster.password)
    for name in names:
        await writer.write_hash(name, {"name": name.encode()})
    reader = RedisCache(redis_cluster.url, redis_cluster.password)
    assert [await reader.read_field(name, "name") for name in names] == [name.encode() for name in names]
    for port in redis_cluster.ports:
        shard = Redis.from_url(f"redis://127.0.0.1:{port}/0", password=redis_cluster.password)
        assert 0 < await shard.dbsize() < 50
        await shard.aclose()
    await writer.close()
    await reader.close()


async def test_a_cluster_that_is_not_there_is_unavailable_in_time() -> None:
    cache = RedisCache(f"redis://127.0.0.1:{free_port()}/0?cluster=true", None)
    async with asyncio.timeout(30):
        with pytest.raises(Unavailable, match="cache is unavailable"):
            await cache.ping()
    await cache.close()


@pytest.mark.usefixtures("patient_cache")
@pytest.mark.parametrize("kind", ["redis", "redis_cluster"])
async def test_the_password_is_asked_for_each_connection(request: pytest.FixtureRequest, kind: str) -> None:
    server: backing.Redis | RedisCluster = request.getfixturevalue(kind)
    password = "wrong"
    cache = RedisCache(server.url, lambda: password)
    with pytest.raises(Unavailable):
        await cache.ping()
    password = server.password
    await cache.ping()
    await cache.close()


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server: install redis-server")
    files = write_certificates(tmp_path)
    port = free_port()
    options = {
        "port": 0,
        "tls-port": port,
        "bind": "127.0.0.1",
        "save": "",
        "dir": tmp_path,
        "tls-cert-file": files.certificate,
        "tls-key-file": files.key,
        "tls-ca-cert-file": files.authority,
        "tls-auth-clients": "no",
    }
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    process = ServerProcess([program, *flags], tmp_path / "redis.log")
    process.start(lambda: answers(port))
    yield port
    process.kill()


@pytest.mark.usefixtures("patient_cache")
async def test_tls_trusts_the_authorities_of_the_system_and_no_other(
    tls_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = RedisCache(f"rediss://127.0.0.1:{tls_port}/0", None)
    with pytest.raises(Unavailable, match="certificate"):
        await stranger.ping()
    await stranger.close()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    known = RedisCache(f"rediss://127.0.0.1:{tls_port}/0", None)
    await known.ping()
    await known.close()
