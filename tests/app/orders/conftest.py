"""The role `order` on either set of backing services, with an engine within the process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from app.events.registry import FAMILIES
from app.kit import schema
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from app.orders.endpoints import serve
from app.roles import ROLES
from tests.app.auth.issuer import Issuer, publishing
from tests.app.orders.engine import FakeEngine
from tests.app.orders.orders import ANN
from tests.app.patience import patience

__all__ = ["patience"]

SECONDS = 30.0


@dataclass
class Orders:
    """The role, a client of it and what stands behind."""

    client: httpx.AsyncClient
    runtime: Runtime
    engine: FakeEngine
    issuer: Issuer
    task: "asyncio.Task[None]"

    @property
    def url(self) -> str:
        return self.runtime.directory["order"]

    async def call(
        self, method: str, path: str, expect: int = 200, user: str = ANN, /, **options: Any
    ) -> Any:
        """The document of an answer; a problem document when `expect` is 400 or more."""
        headers = {**self.issuer.headers(user), **options.pop("headers", {})}
        answer = await self.client.request(method, f"/api/orders{path}", headers=headers, **options)
        assert answer.status_code == expect, answer.text
        if expect >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
        return answer.json() if answer.content else None

    async def place(self, expect: int = 201, user: str = ANN, /, **body: Any) -> Any:
        """Enter a limit order to buy 0.5 BTC at 100, or what `body` says instead."""
        return await self.call("POST", "", expect, user, json=order(**body))

    async def until(self, path: str, fits: Callable[[Any], bool], user: str = ANN, /, **params: Any) -> Any:
        """What the history says, once it fits: it is a moment behind the engine."""
        found = None
        try:
            async with asyncio.timeout(SECONDS):
                while not fits(found := await self.call("GET", path, 200, user, params=params)):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(found) from None
        return found

    async def order(self, id: str, status: str, user: str = ANN, /) -> Any:
        """An order, once it has a status."""
        return await self.until(f"/{id}", lambda found: found["status"] == status, user)

    def websocket(self, **options: Any) -> connect:
        url = self.url.replace("http", "ws") + "/api/orders/stream"
        return connect(url, proxy=None, **options)


def order(**body: Any) -> dict[str, Any]:
    given = {"symbol": "BTC-USD", "side": "buy", "order_type": "limit", "quantity": "0.5", "price": "100"}
    return {name: value for name, value in {**given, **body}.items() if value is not None}


Start = Callable[..., Awaitable[Orders]]


@pytest.fixture(params=["memory", "servers"])
async def orders(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Orders]:
    database, bus = f"sqlite+aiosqlite:///{tmp_path}/app.db", "memory://"
    if request.param == "servers":
        database = await request.getfixturevalue("postgresql").new_database()
        bus = request.getfixturevalue("kafka").url
    settings = Settings.load(database_url=database, bus_url=bus, host="127.0.0.1", port=0)
    backends = Backends(settings)
    try:
        await schema.to(backends.database)
        await backends.bus.ensure([family.topic for family in FAMILIES.values()])
        runtime = Runtime(ROLES["order"], settings, backends)
        engine = FakeEngine(runtime)
        async with publishing(runtime.directory) as issuer:
            task = asyncio.create_task(serve(runtime, lambda _: engine))  # type: ignore[arg-type, return-value]
            ready = asyncio.create_task(runtime.became_ready.wait())
            async with asyncio.timeout(30):
                await asyncio.wait((ready, task), return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if task.done():
                task.result()
            url = runtime.directory["order"]
            async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
                yield Orders(client, runtime, engine, issuer, task)
            runtime.stopping.set()
            async with asyncio.timeout(SECONDS):
                await task
    finally:
        await backends.close()
