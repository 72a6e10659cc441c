"""CPU load on the gateway adds a replica, and its end takes it away again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.cluster.platform.conftest import Platform
from tests.stream import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

CLIENTS = 24


def replicas(platform: Platform) -> int:
    return int(
        platform.get("deployment", "gateway", "-n", "trading-system")["status"].get("readyReplicas", 0)
    )


@asynccontextmanager
async def load(url: str) -> AsyncIterator[None]:
    """Requests without pause from a bounded number of clients."""

    async def request() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
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


async def test_replicas_follow_the_load(platform: Platform) -> None:
    await until("one replica", lambda: replicas(platform) == 1, 420)
    async with load(platform.url):
        await until("a second replica is ready", lambda: replicas(platform) >= 2, 240)
    # The scale-down window of 300 s, then a pod each 120 s.
    await until("back at one replica", lambda: replicas(platform) == 1, 600)
