"""What a client of the printed address notices while parts of the platform are killed."""

import asyncio

import pytest

from tests.cluster.platform.conftest import Platform
from tests.stream import following, prices_resume, until

pytestmark = pytest.mark.cluster


def ready(platform: Platform, namespace: str, name: str) -> bool:
    pods = platform.pods(namespace, name)
    return bool(pods) and all(
        each["ready"] for pod in pods for each in pod["status"].get("containerStatuses", [{"ready": False}])
    )


async def kill(platform: Platform, namespace: str, name: str) -> None:
    """Kill the processes of every pod of a workload at once, as a crash would."""
    for pod in platform.pods(namespace, name):
        await asyncio.to_thread(
            platform.cluster.kubectl, "delete", "pod", pod["metadata"]["name"], "-n", namespace,
            "--grace-period=0", "--force",
        )  # fmt: skip


@pytest.mark.parametrize("role", ["price-service", "gateway", "price-collector", "market-data", "frontend"])
async def test_a_killed_pod_costs_a_client_at_most_a_snapshot(platform: Platform, role: str) -> None:
    async with following(platform.stream) as client:
        await kill(platform, "trading-system", role)
        await prices_resume(client, 90)
        await until(f"{role} is ready", lambda: ready(platform, "trading-system", role), 180)
        await prices_resume(client, 90)


async def test_prices_resume_after_kafka_returns(platform: Platform) -> None:
    before = platform.restarts()
    async with following(platform.stream) as client:
        await kill(platform, "trading-data", "kafka")
        await until("kafka is ready", lambda: ready(platform, "trading-data", "kafka"), 300)
        await prices_resume(client, 120)
    after = platform.restarts()
    assert {name: after[name] for name in before if name in after} == {
        name: count for name, count in before.items() if name in after
    }
