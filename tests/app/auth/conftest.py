"""The role `auth` on real PostgreSQL and Redis, with a clock that the test moves."""

import asyncio
import io
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
import redis.asyncio as redis_client
from sqlalchemy import func, select

from app.auth import signing
from app.auth.context import AuthContext
from app.auth.endpoints import serve
from app.events.envelope import Envelope
from app.events.registry import FAMILIES
from app.kit import logs, schema
from app.kit.bus.memory import MemoryBus
from app.kit.outbox import OutboxRow, Relay
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from app.roles import ROLES, Kind, Need, Role
from infra.servers.backing import Postgresql, Redis
from tests.app.patience import patience

__all__ = ["patience"]

ROLE = Role(
    name="auth",
    summary="Accounts, sessions, second factor and API keys",
    kind=Kind.SERVICE,
    entry="app.auth.endpoints:serve",
    port=8086,
    resources=ROLES["market-data"].resources,
    needs=frozenset({Need.DATABASE, Need.BUS, Need.CACHE}),
    routes=("/api/auth",),
    secrets=frozenset(
        {"app_database_password", "app_cache_password", "app_auth_signing_key", "app_auth_encryption_key"}
    ),
)
EMAIL = "ann@example.com"
PASSWORD = "wobbly-lantern-41-quay"
OTHER_PASSWORD = "brittle*meadow*77*anvil"


class Clock:
    """Begins now, so that libraries with a clock of their own agree, and goes on when told."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.stopped: float | None = None

    def __call__(self) -> float:
        return (time.time() if self.stopped is None else self.stopped) + self.ahead

    def stop(self) -> None:
        """From now on time passes only when told to, where a test goes to the edges of a limit."""
        self.stopped = time.time()

    def pass_(self, seconds: float) -> None:
        self.ahead += seconds


@dataclass
class Auth:
    """The role, a client of it and what stands behind."""

    client: httpx.AsyncClient
    runtime: Runtime
    context: AuthContext
    clock: Clock

    async def call(
        self, method: str, path: str, token: str | None = None, /, expect: int = 200, **body: Any
    ) -> Any:
        """The answer's document; a problem document when `expect` is 400 or more."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = await self.client.request(method, f"/api/auth{path}", headers=headers, json=body or None)
        assert answer.status_code == expect, answer.text
        if expect >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
        return answer.json() if answer.content else None

    async def refused(
        self, code: str, status: int, method: str, path: str, token: str | None = None, /, **body: Any
    ) -> dict[str, Any]:
        problem = await self.call(method, path, token, expect=status, **body)
        assert problem["code"] == code, problem
        return dict(problem)

    async def register(self, email: str = EMAIL, password: str = PASSWORD) -> str:
        found = await self.call("POST", "/register", expect=201, email=email, password=password)
        return str(found["user_id"])

    async def login(self, email: str = EMAIL, password: str = PASSWORD, **more: Any) -> dict[str, Any]:
        return dict(await self.call("POST", "/login", email=email, password=password, **more))

    async def token(self, email: str = EMAIL) -> str:
        """An access token of a new account."""
        await self.register(email)
        return str((await self.login(email))["access_token"])

    async def enrolled(self, email: str = EMAIL) -> "Enrolled":
        """A new account with the second factor on, logged in."""
        token = await self.token(email)
        secret = (await self.call("POST", "/totp", token, password=PASSWORD))["secret"]
        codes = await self.call("POST", "/totp/confirm", token, code=self.code(secret))
        self.clock.pass_(30)
        proved = await self.call("POST", "/step-up", token, code=self.code(secret))
        self.clock.pass_(30)
        return Enrolled(email, secret, codes["recovery_codes"], proved["access_token"])

    def code(self, secret: str, steps: int = 0) -> str:
        """The code of an authenticator now, or some steps from now."""
        return pyotp.TOTP(secret).generate_otp(int(self.clock()) // 30 + steps)

    async def api_key(self, token: str, *scopes: str, **more: Any) -> tuple[str, str]:
        body = {"name": "a key", "scopes": list(scopes), **more}
        made = await self.call("POST", "/api-keys", token, expect=201, **body)
        return made["id"], made["secret"]

    def signed(self, key: str, secret: str, *, path: str = "/who", **more: Any) -> dict[str, str]:
        """Headers of a signed request at the clock's time."""
        given = {"timestamp_ms": int(self.clock() * 1000), "method": "GET", "path": path, **more}
        return signing.headers(key, secret, **given)

    async def events(self) -> list[dict[str, Any]]:
        """What was told since the last time, oldest first."""
        bus = self.runtime.backends.bus
        assert isinstance(bus, MemoryBus)
        subscription = await bus.subscribe(["user-events"], "auth-tests")
        try:
            async with asyncio.timeout(30):
                # The role's own relay may have taken some of them: what is gone from the table is told.
                while await self._untold():
                    await Relay(self.context.database, bus).relay()
            found = await subscription.batch(limit=1000, seconds=0.2)
            await subscription.commit(found)
        finally:
            await subscription.close()
        decoded = [Envelope.decode(message.value) for message in found]
        for event in decoded:
            assert event.content() is not None
            assert event.key == event.payload["user"]
        return [{"type": event.type, **event.payload} for event in decoded]

    async def _untold(self) -> int:
        async with self.context.database.transaction(read_only=True) as session:
            return await session.scalar(select(func.count()).select_from(OutboxRow)) or 0


@dataclass
class Enrolled:
    """Who has a second factor."""

    email: str
    secret: str
    recovery_codes: list[str]
    token: str


@asynccontextmanager
async def serving(settings: Settings, **changes: Any) -> AsyncIterator[Auth]:
    """Run the role until the end of the body."""
    backends, clock = Backends(settings), Clock()
    await schema.to(backends.database)
    await backends.bus.ensure([family.topic for family in FAMILIES.values()])
    runtime = Runtime(ROLE, settings, backends)
    made: list[AuthContext] = []

    def make(given: Runtime) -> AuthContext:
        made.append(replace(AuthContext.of(given, clock), **changes))
        return made[0]

    task = asyncio.create_task(serve(runtime, make))
    try:
        ready = asyncio.create_task(runtime.became_ready.wait())
        async with asyncio.timeout(30):
            await asyncio.wait((ready, task), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if task.done():
            task.result()
        url = runtime.directory["auth"]
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
            yield Auth(client, runtime, made[0], clock)
    finally:
        runtime.stopping.set()
        async with asyncio.timeout(30):
            await task
        await backends.close()


@pytest.fixture
def secrets_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "secrets"
    directory.mkdir()
    monkeypatch.setenv("APP_SECRETS_DIR", str(directory))
    return directory


@pytest.fixture
async def auth(
    postgresql: Postgresql, redis: Redis, secrets_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Auth]:
    (secrets_dir / "app_auth_signing_key").write_text("signing " * 6)
    (secrets_dir / "app_auth_encryption_key").write_text("encrypting " * 5)
    monkeypatch.setenv("APP_PROXY_HOPS", "1")
    await empty(redis)
    settings = Settings.load(
        database_url=await postgresql.new_database(),
        bus_url="memory://",
        cache_url=redis.url,
        cache_password=redis.password,
        host="127.0.0.1",
        port=0,
    )
    async with serving(settings) as made:
        yield made


async def empty(server: Redis) -> None:
    """Forget everything, so that no test waits for the pauses of another."""
    client = redis_client.Redis.from_url(server.url, password=server.password)
    await client.flushdb()
    await client.aclose()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Every log line of the process, as it would be written."""
    sink = io.StringIO()
    logs.configure(Settings.load(log_level="DEBUG"))
    root = logging.getLogger()
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(sink)
    yield sink
    root.handlers[:] = []
