"""Both adapters of each backing service, for the tests that hold for either."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.events.registry import FAMILIES
from app.kit import schema
from app.kit.bus import Bus
from app.kit.bus.kafka import KafkaBus
from app.kit.bus.memory import MemoryBus
from app.kit.cache import Cache
from app.kit.cache import redis as redis_client
from app.kit.cache.memory import MemoryCache
from app.kit.cache.redis import RedisCache
from app.kit.database import Database
from app.price_service import hub
from infra.servers.backing import Postgresql, Redis, RedisCluster
from tests.servers.fixtures import kafka, postgresql, redis, redis_cluster

__all__ = ["kafka", "postgresql", "redis", "redis_cluster"]


@pytest.fixture(autouse=True)
def _empty_topics(request: pytest.FixtureRequest) -> None:
    """Tests share one Kafka, and followers of a new database would read what earlier tests left unread."""
    if "[" in request.node.name and ("servers" in request.node.name or "kafka" in request.node.name):
        request.getfixturevalue("kafka").forget()


@pytest.fixture(autouse=True)
def _no_connections() -> None:
    """Metrics are the process's: clients of a hub that an earlier test never let go would be counted."""
    hub.connections.set(0)
    hub.subscriptions.set(0)


@pytest.fixture(params=["memory", "kafka"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    made: Bus = (
        MemoryBus()
        if request.param == "memory"
        else KafkaBus(request.getfixturevalue("kafka").url.removeprefix("kafka://"), "tests")
    )
    yield made
    await made.close()


@pytest.fixture
def patient_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that answers late counts as away: here it may take its time, as on a machine that stands."""
    monkeypatch.setattr(redis_client, "_SECONDS", 30.0)
    monkeypatch.setattr(redis_client, "_ANSWER_SECONDS", 60.0)


@pytest.fixture(params=["memory", "redis", "redis_cluster"])
async def cache(request: pytest.FixtureRequest, patient_cache: None) -> AsyncIterator[Cache]:
    if request.param == "memory":
        yield MemoryCache()
        return
    server: Redis | RedisCluster = request.getfixturevalue(request.param)
    made = RedisCache(server.url, server.password)
    yield made
    await made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = (
        f"sqlite+aiosqlite:///{tmp_path}/test.db"
        if request.param == "sqlite"
        else await request.getfixturevalue("postgresql").new_database()
    )
    made = Database(url)
    yield made
    await made.close()


@pytest.fixture
async def database(empty_database: Database) -> Database:
    await schema.to(empty_database)
    return empty_database


@pytest.fixture
async def postgresql_database(postgresql: Postgresql) -> AsyncIterator[Database]:
    made = Database(await postgresql.new_database())
    await schema.to(made)
    yield made
    await made.close()


@pytest.fixture
async def memory_bus() -> MemoryBus:
    made = MemoryBus()
    await made.ensure([family.topic for family in FAMILIES.values()])
    return made
