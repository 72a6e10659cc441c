"""Session fixtures of the backing services; a missing program skips the tests that need it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from infra.servers.backing import Kafka, Missing, Postgresql, Redis, RedisCluster


class _Killable(Protocol):
    def kill(self) -> None: ...


class _Server(Protocol):
    @property
    def process(self) -> _Killable: ...


S = TypeVar("S", bound=_Server)


def _serve(make: Callable[[Path], S]) -> Iterator[S]:
    directory = Path(tempfile.mkdtemp(prefix="tradestack-test-"))
    directory.chmod(0o755)
    server = None
    try:
        try:
            server = make(directory)
        except Missing as missing:
            pytest.skip(str(missing))
        yield server
    finally:
        if server is not None:
            server.process.kill()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    yield from _serve(Postgresql)


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    yield from _serve(Redis)


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    yield from _serve(RedisCluster)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    yield from _serve(Kafka)
