"""Roles running inside the test's process, on memory or on real backing services."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from app import process
from app.events.registry import FAMILIES
from app.kit import schema
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from app.roles import ROLES

SECONDS = 30.0


@dataclass
class Platform:
    """Some roles that run."""

    runtimes: dict[str, Runtime]
    backends: Backends
    addresses: dict[str, str]
    stopping: asyncio.Event

    def url(self, role: str, path: str = "") -> str:
        return self.addresses[role] + path

    async def get(self, role: str, path: str, **options: Any) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client:
            return await client.get(self.url(role, path), **options)

    def websocket(self, role: str, **options: Any) -> connect:
        url = self.url(role, "/ws").replace("http", "ws")
        return connect(url, proxy=None, open_timeout=SECONDS, **options)


@asynccontextmanager
async def running(
    directory: Path, *names: str, wait: bool = True, **overrides: Any
) -> AsyncIterator[Platform]:
    """Run roles on SQLite, bus and cache in memory unless `overrides` name others; stops them at the end."""
    defaults = {
        "database_url": f"sqlite+aiosqlite:///{directory}/app.db",
        "bus_url": "memory://",
        "cache_url": "memory://",
        "host": "127.0.0.1",
        "port": 0,
        "feed_history_minutes": 0,
        "feed_rate": 10.0,
    }
    settings = Settings.load(**{**defaults, **overrides})
    backends = Backends(settings)
    await schema.to(backends.database)
    await backends.bus.ensure([family.topic for family in FAMILIES.values()])
    stopping = asyncio.Event()
    addresses: dict[str, str] = {}
    runtimes = {name: Runtime(ROLES[name], settings, backends, addresses, stopping) for name in names}
    task = asyncio.create_task(process.run(runtimes.values(), backends))
    try:
        if wait:
            async with asyncio.timeout(SECONDS):
                for runtime in runtimes.values():
                    ready = asyncio.create_task(runtime.became_ready.wait())
                    await asyncio.wait((ready, task), return_when=asyncio.FIRST_COMPLETED)
                    ready.cancel()
                    if task.done():
                        task.result()
        yield Platform(runtimes, backends, addresses, stopping)
    finally:
        stopping.set()
        async with asyncio.timeout(SECONDS):
            await task


async def receive(client: ClientConnection, kind: str | None = None) -> dict[str, Any]:
    """The next message, of one kind if one is given."""
    async with asyncio.timeout(SECONDS):
        while True:
            message: dict[str, Any] = json.loads(await client.recv())
            if kind is None or message["type"] == kind:
                return message


async def subscribe(client: ClientConnection, symbols: list[str] | str) -> None:
    await client.send(json.dumps({"op": "subscribe", "symbols": symbols}))
