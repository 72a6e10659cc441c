"""The tests' own cluster: never the user's, clean at the start, gone at the end."""

import fcntl
import hashlib
import platform
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from os import geteuid

import pytest

from infra.cluster import doctor
from infra.cluster.cluster import Cluster
from infra.cluster.instance import RUN_ROOT, Instance
from infra.paths import REPOSITORY
from infra.progress import Steps

TEST_CLUSTER = f"test-{hashlib.sha256(str(REPOSITORY).encode()).hexdigest()[:6]}"
_COLD_SECONDS = 2400
"""The first test may build Kubernetes and the images."""


@cache
def _unsupported() -> str:
    if platform.system() != "Linux":
        return "the embedded cluster needs Linux"
    if geteuid() != 0:
        return "the embedded cluster needs root"
    failed = [check for check in doctor.doctor(Instance.named(TEST_CLUSTER)) if not check.passed]
    return "; ".join(f"{check.name}: {check.found} (fix: {check.fix})" for check in failed)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("cluster") is not None:
            item.add_marker(pytest.mark.timeout(_COLD_SECONDS))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cluster") is not None and _unsupported():
        pytest.skip(_unsupported())


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster with an empty state; another test run on this machine waits for this one to end."""
    cluster = Cluster(TEST_CLUSTER)
    RUN_ROOT.mkdir(parents=True, exist_ok=True)
    with (RUN_ROOT / f"{TEST_CLUSTER}.tests.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        cluster.down(purge=True)
        try:
            cluster.up(Steps())
            yield cluster
        finally:
            cluster.down(purge=True)


@pytest.fixture
def namespace(cluster: Cluster, eventually: Callable[..., None]) -> Iterator[str]:
    """A namespace of its own for one test."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    # A controller makes it a moment later, and no pod is taken before.
    account = ("get", "serviceaccount", "default", "-n", name, "--ignore-not-found", "-o=name")
    eventually(lambda: cluster.kubectl(*account).strip())
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Asks until the answer is true or the time is up, and then fails with the last answer."""

    def ask(question: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not (answer := question()):
            assert time.monotonic() < deadline, f"not within {seconds:g} s; last answer: {answer!r}"
            time.sleep(0.25)

    return ask
