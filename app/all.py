"""The whole platform in one process: SQLite, bus and cache in memory, one public port."""

import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path

from app import process
from app.events.registry import FAMILIES
from app.kit import logs, migrate
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from app.roles import ROLES, Kind


async def run_all(port: int, data: str | None) -> None:
    """Run every role until SIGTERM or SIGINT; prints the address when it is up.

    `data` is the directory that keeps the database; without it a temporary one is used and removed at the end.
    """
    stopping = process.stop_on_signal()
    with ExitStack() as cleanup:
        directory = Path(data or cleanup.enter_context(tempfile.TemporaryDirectory(prefix="tradestack-")))
        directory.mkdir(parents=True, exist_ok=True)
        settings = Settings.load(
            database_url=f"sqlite+aiosqlite:///{directory.resolve()}/tradestack.db",
            bus_url="memory://",
            cache_url="memory://",
            host="127.0.0.1",
            port=0,
        )
        logs.configure(settings)
        backends = Backends(settings)
        await migrate.to(backends.database)
        await backends.bus.ensure([family.topic for family in FAMILIES.values()])
        addresses: dict[str, str] = {}
        runtimes = [
            Runtime(role, settings, backends, addresses, stopping)
            for role in ROLES.values()
            if role.kind is not Kind.TASK
        ]
        public = next(runtime for runtime in runtimes if runtime.role.name == "gateway")
        public.settings = Settings.load(host=Settings.load().host, port=port)
        announcer = asyncio.create_task(_announce(runtimes, f"http://localhost:{port}"))
        try:
            await process.run(runtimes, backends)
        finally:
            announcer.cancel()


async def _announce(runtimes: list[Runtime], url: str) -> None:
    while not all(runtime.ready for runtime in runtimes):
        await asyncio.sleep(0.02)
    print(f"Tradestack is up: {url}", flush=True)
