"""Every role as its own process on real PostgreSQL, Redis and Kafka: start, outages, kills, end."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from secrets import token_urlsafe

import httpx
import pytest

from app.roles import ROLES
from infra.servers.backing import Kafka, Postgresql, Redis
from infra.servers.process import ServerProcess, free_port, wait_until
from tests.stream import StreamClient, following, prices_resume, until

SERVICES = [role.name for role in ROLES.values() if not role.ends and role.queue is None]


def answer(url: str) -> httpx.Response | None:
    try:
        return httpx.get(url, timeout=20, trust_env=False)
    except httpx.HTTPError:
        return None


class Deployment:
    """The processes of one platform."""

    def __init__(self, directory: Path, env: dict[str, str]) -> None:
        self.directory = directory
        self.ports = {name: free_port() for name in SERVICES}
        upstreams = {
            f"APP_UPSTREAM_{name.upper().replace('-', '_')}": f"http://127.0.0.1:{port}"
            for name, port in self.ports.items()
        }
        self.env = {
            **env,
            **upstreams,
            "APP_HOST": "127.0.0.1",
            "APP_FEED_RATE": "5",
            "APP_FEED_HISTORY_MINUTES": "2",
        }
        self.processes: dict[str, ServerProcess] = {}

    def url(self, role: str, path: str = "") -> str:
        return f"http://127.0.0.1:{self.ports[role]}{path}"

    def status(self, role: str, path: str) -> int | None:
        found = answer(self.url(role, path))
        return found.status_code if found is not None else None

    def task(self, name: str) -> None:
        process = ServerProcess(
            [sys.executable, "-m", "app", "run", name], self.directory / f"{name}.log", env=self.env
        )
        process.launch()
        assert process.wait(60) == 0, process.output

    def start(self, role: str, *, ready: bool = True) -> ServerProcess:
        env = {
            **self.env,
            "APP_PORT": str(self.ports[role]),
            "APP_ADVERTISED_ADDRESS": self.url(role),
        }
        process = ServerProcess(
            [sys.executable, "-m", "app", "run", role], self.directory / f"{role}.log", env=env
        )
        path = "/readyz" if ready else "/livez"
        self.processes[role] = process
        process.start(lambda: self.status(role, path) == 200, seconds=60)
        return process

    def restart(self, role: str) -> None:
        """Kill a role and start it again, without waiting."""
        self.processes[role].kill()
        self.processes[role].launch()

    def pids(self) -> dict[str, int]:
        assert all(process.returncode is None for process in self.processes.values())
        return {name: process.pid for name, process in self.processes.items()}


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, postgresql: Postgresql, redis: Redis, kafka: Kafka
) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("deployment")
    secrets = directory / "secrets"
    secrets.mkdir()
    (secrets / "app_cache_password").write_text(redis.password)
    for key in ("app_internal_token", "app_auth_signing_key", "app_auth_encryption_key"):
        (secrets / key).write_text(token_urlsafe(48))
    env = {
        "APP_DATABASE_URL": asyncio.run(postgresql.new_database()),
        "APP_CACHE_URL": redis.url,
        "APP_BUS_URL": kafka.url,
        "APP_SECRETS_DIR": str(secrets),
    }
    made = Deployment(directory, env)
    try:
        made.start("market-data", ready=False)
        assert made.status("market-data", "/readyz") == 503
        made.task("migrate")
        made.task("topics")
        for role in SERVICES:
            if role != "market-data":
                made.start(role)
        wait_until("market-data is ready", lambda: made.status("market-data", "/readyz") == 200, 60)
        yield made
    finally:
        for process in made.processes.values():
            process.kill()


def following_stream(deployment: Deployment) -> AbstractAsyncContextManager[StreamClient]:
    return following(deployment.url("gateway", "/ws").replace("http", "ws"))


def test_reads_through_the_gateway(deployment: Deployment) -> None:
    found = answer(deployment.url("gateway", "/api/market/instruments"))
    assert found is not None
    assert len(found.json()) >= 20
    assert deployment.status("gateway", "/") == 200
    assert deployment.status("gateway", "/api/market/tickers/BTC-USD") == 200

    def candles() -> int:
        page = answer(deployment.url("gateway", "/api/market/candles/BTC-USD"))
        return len(page.json()["candles"]) if page is not None and page.status_code == 200 else 0

    wait_until("candles are stored", lambda: candles() >= 2, 30)


async def test_a_killed_collector_is_followed_by_an_epoch_of_its_own(deployment: Deployment) -> None:
    """Nobody knows what the killed one still numbered; one that hands over leaves its epoch."""
    async with following_stream(deployment) as found:
        before = dict(found.seen)
        deployment.restart("price-collector")

        def another_epoch() -> bool:
            return any(epoch != before[symbol][0] for symbol, (epoch, _) in tuple(found.seen.items()))

        # What was on its way when it was killed comes before that.
        await until("another epoch", another_epoch, 60)
        await prices_resume(found, 60)
        told = {symbol: epoch for symbol, (epoch, _) in found.seen.items()}
        changed = {epoch for symbol, epoch in told.items() if epoch != before[symbol][0]}
        assert len(changed) == 1
        process = deployment.processes["price-collector"]
        assert await asyncio.to_thread(process.stop, 60) == 0
        process.launch()
        await prices_resume(found, 60)
        assert {epoch for epoch, _ in found.seen.values()} - set(told.values()) <= changed


async def test_a_killed_price_service_is_not_noticed_but_by_a_snapshot(deployment: Deployment) -> None:
    async with following_stream(deployment) as found:
        snapshots, closes = found.snapshots, len(found.close_codes)
        deployment.restart("price-service")
        # What was on its way when it was killed comes before that.
        await until("the connection ends", lambda: len(found.close_codes) > closes, 60)
        await until("a snapshot", lambda: found.snapshots > snapshots, 60)
        await prices_resume(found, 60)
        assert found.close_codes[closes] == 1012


async def test_a_killed_gateway_is_reconnected_to(deployment: Deployment) -> None:
    async with following_stream(deployment) as found:
        closes = len(found.close_codes)
        deployment.restart("gateway")
        await until("the connection ends", lambda: len(found.close_codes) > closes, 60)
        await prices_resume(found, 60)


async def test_the_bus_may_be_away(deployment: Deployment, kafka: Kafka) -> None:
    pids = deployment.pids()
    async with following_stream(deployment) as found:
        kafka.process.kill()
        await asyncio.sleep(4)
        assert {deployment.status(role, "/livez") for role in SERVICES} == {200}
        kafka.process.launch()
        await prices_resume(found, 120)
    assert deployment.pids() == pids


async def test_the_cache_may_be_away(deployment: Deployment, redis: Redis) -> None:
    pids = deployment.pids()
    async with following_stream(deployment) as found:
        redis.process.kill()
        await prices_resume(found, 60)
        assert {deployment.status(role, "/livez") for role in SERVICES} == {200}
        unavailable = answer(deployment.url("gateway", "/api/market/tickers"))
        assert unavailable is not None
        assert (unavailable.status_code, unavailable.json()["code"]) == (503, "unavailable")
        redis.process.launch()
        await until(
            "tickers are back", lambda: deployment.status("gateway", "/api/market/tickers") == 200, 60
        )
        await prices_resume(found, 60)
    assert deployment.pids() == pids


async def test_the_database_may_be_away(deployment: Deployment, postgresql: Postgresql) -> None:
    pids = deployment.pids()
    postgresql.process.signal(signal.SIGINT)
    await asyncio.to_thread(postgresql.process.wait, 60)
    async with following_stream(deployment):
        assert deployment.status("gateway", "/api/market/candles/BTC-USD") == 503
        assert deployment.status("market-data", "/livez") == 200
    postgresql.process.launch()

    def newest() -> str:
        page = answer(deployment.url("gateway", "/api/market/candles/BTC-USD?limit=1"))
        candles = page.json()["candles"] if page is not None and page.status_code == 200 else []
        return json.dumps(candles)

    await until("candles are back", lambda: newest() not in ("[]",), 60)
    before = newest()
    await until("candles go on", lambda: newest() != before, 60)
    assert deployment.pids() == pids


def test_healthcheck(deployment: Deployment, capfd: pytest.CaptureFixture[str]) -> None:
    for port, code in ((deployment.ports["market-data"], 0), (free_port(), 1)):
        env = {**deployment.env, "APP_PORT": str(port)}
        command = [sys.executable, "-m", "app", "healthcheck", "market-data"]
        process = ServerProcess(command, deployment.directory / "healthcheck.log", env=env)
        process.launch()
        assert process.wait(60) == code


def test_logs_are_json_lines(deployment: Deployment) -> None:
    for role in SERVICES:
        for line in deployment.processes[role].output.splitlines():
            assert {"timestamp", "level", "event"} <= json.loads(line).keys()


def test_every_role_ends_when_told(deployment: Deployment) -> None:
    for role in SERVICES:
        process = deployment.processes[role]
        assert process.stop(ROLES[role].drain_seconds + 30) == 0, process.output


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            {},
            "APP_DATABASE_URL is not set: give it like postgresql+asyncpg://trading@postgresql:5432/trading",
        ),
        ({"APP_BUS_URL": "amqp://x"}, "APP_BUS_URL='amqp://x'"),
        ({"APP_PORT": "70000"}, "APP_PORT='70000'"),
    ],
)
def test_a_wrong_environment_is_told_before_anything_starts(
    tmp_path: Path, env: dict[str, str], message: str
) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
    process = ServerProcess(
        [sys.executable, "-m", "app", "run", "market-data"], tmp_path / "log", env={**clean, **env}
    )
    process.launch()
    assert process.wait(60) == 2
    assert message in process.output
    assert "Traceback" not in process.output
