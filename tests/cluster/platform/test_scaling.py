"""KEDA adds replicas for connections, requests and hours, and takes none away while it sees nothing."""

import asyncio
import copy
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.cluster.platform.conftest import Platform, pinned
from tests.stream import following, until
from tests.traders import within

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SYSTEM = ("-n", "trading-system")
ROLE = "price-service"
FEW = 4
"""Connections for each replica in these tests."""
METRICS_SECONDS = 300
"""Within this time after `up`, Prometheus has read every role and KEDA has asked for it."""
REACTION_SECONDS = 300
LOST_SECONDS = 400


class Scaled:
    """One ScaledObject, changed for the length of a test."""

    def __init__(self, platform: Platform, name: str) -> None:
        self.platform, self.name = platform, name
        self.own = platform.get("scaledobject", name, *SYSTEM)["spec"]
        self.spec = copy.deepcopy(self.own)
        # Quick in both directions, as the true windows belong to `tradestack bench scale`.
        quick = {"type": "Percent", "value": 100, "periodSeconds": 15}
        rules = {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [quick]}
        self.spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] = {
            "scaleUp": rules,
            "scaleDown": rules,
        }
        # The load of the tests themselves must not count.
        self.trigger("cpu")["metadata"]["value"] = "5000"

    def trigger(self, name: str) -> dict[str, Any]:
        (found,) = [item for item in self.spec["triggers"] if item.get("name", item["type"]) == name]
        result: dict[str, Any] = found
        return result

    def apply(self, spec: dict[str, Any] | None = None) -> None:
        patch = json.dumps({"spec": self.spec if spec is None else spec})
        self.platform.cluster.kubectl(
            "patch", "scaledobject", self.name, *SYSTEM, "--type=merge", "-p", patch
        )

    def condition(self, type_: str) -> str:
        status = self.platform.get("scaledobject", self.name, *SYSTEM).get("status", {})
        found = {item["type"]: item["status"] for item in status.get("conditions", ())}
        return str(found.get(type_, "Unknown"))

    def hpa(self) -> dict[str, Any]:
        found: dict[str, Any] = self.platform.get("hpa", f"keda-hpa-{self.name}", *SYSTEM)
        return found

    def wanted(self) -> int:
        return int(self.platform.get("deployment", self.name, *SYSTEM)["spec"]["replicas"])

    def ready(self) -> int:
        return int(self.platform.get("deployment", self.name, *SYSTEM)["status"].get("readyReplicas", 0))


@contextmanager
def changed(platform: Platform, name: str) -> Iterator[Scaled]:
    scaled = Scaled(platform, name)
    try:
        yield scaled
    finally:
        scaled.apply(scaled.own)


@pytest.fixture
def prices(platform: Platform) -> Iterator[Scaled]:
    """price-service's autoscaler, quick, at a few connections for each replica."""
    with changed(platform, ROLE) as scaled:
        scaled.trigger("connections")["metadata"]["threshold"] = str(FEW)
        yield scaled
    # Its true windows would take a second replica away in the middle of a later test.
    with pinned(platform, 1):
        pass


async def calm(scaled: Scaled) -> None:
    """Apply the changes and wait until the autoscaler sees everything and wants the minimum."""
    scaled.apply()
    await until(
        f"{scaled.name} has its metrics", lambda: scaled.condition("Fallback") == "False", METRICS_SECONDS
    )
    await until("one replica", lambda: scaled.wanted() == 1 and scaled.ready() == 1, REACTION_SECONDS)


async def stays(what: str, condition: Callable[[], bool], seconds: float) -> None:
    """Fail at the first moment at which `condition` does not hold."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert await asyncio.to_thread(condition), f"no longer: {what}"
        await asyncio.sleep(1)


@asynccontextmanager
async def connected(url: str, clients: int) -> AsyncIterator[None]:
    """Clients that come back when they are asked to, each of which has been answered once."""

    async def stay(answered: asyncio.Event) -> None:
        async for socket in connect(url, proxy=None, open_timeout=30):
            # A replica on its way out closes with 1012, which is an error to the library.
            with suppress(ConnectionClosed):
                await socket.send('{"op":"subscribe","symbols":["BTC-USD"]}')
                async for _ in socket:
                    answered.set()

    answers = [asyncio.Event() for _ in range(clients)]
    tasks = [asyncio.create_task(stay(answered)) for answered in answers]
    try:
        async with asyncio.timeout(120):
            await asyncio.gather(*(answered.wait() for answered in answers))
        yield
        assert not any(task.done() for task in tasks), "a client is gone"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def external(name: str, value: str) -> tuple[str, str, str]:
    return name, "AverageValue", value


def test_autoscalers_look_at_what_the_roles_ask_for(platform: Platform) -> None:
    expected = {
        "price-service": {external("s0-prometheus", "400"), external("s1-prometheus", "1k")},
        "order": {external("s0-prometheus", "50"), external("s1-kafka-matching-output", "1k")},
    }
    for name, metrics in expected.items():
        scaled = Scaled(platform, name)
        within(60, f"{name} is scaled", lambda scaled=scaled: scaled.condition("Ready") == "True")
        spec = scaled.hpa()["spec"]
        assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 2)
        found = {
            external(item["external"]["metric"]["name"], item["external"]["target"]["averageValue"])
            for item in spec["metrics"]
            if item["type"] == "External"
        }
        assert found == metrics
        (resource,) = [item["resource"] for item in spec["metrics"] if item["type"] == "Resource"]
        assert resource == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}


def test_nothing_is_scaled_by_two(platform: Platform) -> None:
    targets = [item["spec"]["scaleTargetRef"]["name"] for item in platform.get("hpa", *SYSTEM)["items"]]
    assert sorted(targets) == sorted(set(targets))
    assert {"price-service", "order", "gateway", "frontend", "auth"} <= set(targets)


async def test_connections_add_a_pod_and_their_end_takes_it_away(prices: Scaled) -> None:
    await calm(prices)
    # Who watches is moved to another replica and misses nothing: a gap would be raised here.
    async with following(prices.platform.stream):
        async with connected(prices.platform.stream, 2 * FEW):
            await until("a second replica is ready", lambda: prices.ready() == 2, REACTION_SECONDS)
        await until("back at one replica", lambda: prices.wanted() == 1, REACTION_SECONDS)


async def test_a_metric_that_is_lost_takes_no_pod_away(prices: Scaled) -> None:
    await calm(prices)
    async with connected(prices.platform.stream, 2 * FEW):
        await until("a second replica is ready", lambda: prices.ready() == 2, REACTION_SECONDS)
        prices.trigger("connections")["metadata"]["query"] = "sum(no_such_metric)"
        prices.spec["fallback"]["replicas"] = 1
        prices.apply()
        await until("the fallback is used", lambda: prices.condition("Fallback") == "True", LOST_SECONDS)
    await stays("two replicas, though nobody is connected", lambda: prices.wanted() == 2, 45)


@pytest.mark.soak
async def test_without_prometheus_no_pod_is_taken_away(prices: Scaled) -> None:
    platform = prices.platform

    def servers(count: int) -> None:
        patch = json.dumps({"spec": {"replicas": count}})
        where = ("prometheus", "prometheus", "-n", "trading-monitoring")
        platform.cluster.kubectl("patch", *where, "--type=merge", "-p", patch)

    await calm(prices)
    prices.spec["fallback"]["replicas"] = 1
    prices.apply()
    async with connected(platform.stream, 2 * FEW):
        await until("a second replica is ready", lambda: prices.ready() == 2, REACTION_SECONDS)
        servers(0)
        try:
            await until("the fallback is used", lambda: prices.condition("Fallback") == "True", LOST_SECONDS)
        except BaseException:
            servers(1)
            raise
    try:
        await stays("two replicas, though nobody is connected", lambda: prices.wanted() == 2, 45)
    finally:
        servers(1)
    await until("metrics are back", lambda: prices.condition("Fallback") == "False", METRICS_SECONDS)
    await until("back at one replica", lambda: prices.wanted() == 1, REACTION_SECONDS)


@pytest.mark.soak
async def test_hours_raise_the_minimum_while_they_last(prices: Scaled) -> None:
    await calm(prices)
    now = datetime.now(UTC)
    # At noon there, so that the hours do not go over midnight: POSIX counts the other way round.
    zone = f"Etc/GMT{now.hour - 12:+d}"
    local = now - timedelta(hours=now.hour - 12)
    hours = {
        "timezone": zone,
        "start": f"{local.minute} {local.hour - 1} * * *",
        "end": f"{local.minute} {local.hour + 2} * * *",
        "desiredReplicas": "2",
    }
    prices.spec["triggers"].append({"type": "cron", "metricType": "AverageValue", "metadata": hours})
    prices.apply()
    await until("two replicas without load", lambda: prices.ready() == 2, REACTION_SECONDS)
    hours["end"] = f"{local.minute} {local.hour - 1} * * *"
    hours["start"] = f"{local.minute} {local.hour - 2} * * *"
    prices.apply()
    await until("back at one replica", lambda: prices.wanted() == 1, REACTION_SECONDS)


@pytest.mark.soak
async def test_requests_add_a_pod(platform: Platform) -> None:
    with changed(platform, "order") as orders:
        orders.trigger("requests-per-second")["metadata"]["threshold"] = "2"
        await calm(orders)
        async with httpx.AsyncClient(base_url=platform.url, trust_env=False, timeout=30) as client:

            async def ask() -> None:
                while True:
                    await client.get("/api/orders")
                    await asyncio.sleep(0.1)

            task = asyncio.create_task(ask())
            try:
                await until("a second replica is ready", lambda: orders.ready() == 2, REACTION_SECONDS)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
