"""CPU load on the gateway adds a replica, and its end takes it away again."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.cluster.platform.conftest import Platform
from tests.stream import until

pytestmark = pytest.mark.cluster

CLIENTS = 24
HPA = ("hpa", "gateway", "-n", "trading-system")


def replicas(platform: Platform) -> int:
    return int(
        platform.get("deployment", "gateway", "-n", "trading-system")["status"].get("readyReplicas", 0)
    )


@asynccontextmanager
async def load(url: str) -> AsyncIterator[None]:
    """Requests without pause from a bounded number of clients."""

    async def request() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            while True:
                try:
                    await client.get(f"{url}/api/market/tickers")
                except httpx.HTTPError:
                    await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(request()) for _ in range(CLIENTS)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def hasty(platform: Platform) -> Iterator[Platform]:
    """The gateway's autoscaler with short windows, for the length of one test."""
    own = platform.get(*HPA)["spec"]["behavior"]
    fast = {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
    }
    set_pace(platform, {"scaleUp": fast, "scaleDown": {**fast, "stabilizationWindowSeconds": 15}})
    yield platform
    set_pace(platform, own)


def set_pace(platform: Platform, behavior: dict[str, Any]) -> None:
    patch = json.dumps({"spec": {"behavior": behavior}})
    platform.cluster.kubectl("patch", *HPA, "--type=merge", "-p", patch)


async def test_replicas_follow_the_load(hasty: Platform) -> None:
    await until("one replica", lambda: replicas(hasty) == 1, 300)
    async with load(hasty.url):
        await until("a second replica is ready", lambda: replicas(hasty) >= 2, 300)
    await until("back at one replica", lambda: replicas(hasty) == 1, 300)


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_replicas_follow_the_load_at_their_own_pace(platform: Platform) -> None:
    await until("one replica", lambda: replicas(platform) == 1, 420)
    async with load(platform.url):
        await until("a second replica is ready", lambda: replicas(platform) >= 2, 240)
    # The scale-down window of 300 s, then a quarter of the pods in 120 s.
    await until("back at one replica", lambda: replicas(platform) == 1, 700)
