"""The whole platform in one process: SQLite, bus and cache in memory, one public port."""

import asyncio
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from app import process
from app.events.registry import FAMILIES
from app.kit import logs, schema
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from app.roles import ROLES


async def run_all(port: int | None, data: str | None) -> None:
    """Run every role until SIGTERM or SIGINT; prints the address when it is up.

    `port` is the public one; without it that of APP_PORT, else 8080.
    Roles that take their work from a queue in the cloud are left out, and so are jobs. `data` is the
    directory that keeps the database; without it a temporary one is used.
    """
    stopping = process.stop_on_signal()
    with ExitStack() as cleanup:
        directory = data or cleanup.enter_context(tempfile.TemporaryDirectory(prefix="tradestack-"))
        settings = Settings.load(
            database_url=f"sqlite+aiosqlite:///{_database_file(directory)}",
            bus_url="memory://",
            cache_url="memory://",
            host="127.0.0.1",
            port=0,
            **_log_style(),
        )
        logs.configure(settings)
        backends = Backends(settings)
        await schema.to(backends.database)
        await backends.bus.ensure([family.topic for family in FAMILIES.values()])
        addresses: dict[str, str] = {}
        runtimes = [
            Runtime(role, settings, backends, addresses, stopping)
            for role in ROLES.values()
            if not role.ends and role.queue is None
        ]
        public = next(runtime for runtime in runtimes if runtime.role.name == "gateway")
        if port is None and "APP_PORT" not in os.environ:
            port = 8080
        chosen = {} if port is None else {"port": port}
        public.settings = Settings.load(host=os.environ.get("APP_HOST", "127.0.0.1"), **chosen)
        announcer = asyncio.create_task(_announce(runtimes, f"http://localhost:{public.settings.port}"))
        try:
            await process.run(runtimes, backends)
        finally:
            announcer.cancel()


def _database_file(directory: str) -> Path:
    path = Path(directory).resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path / "tradestack.db"


def _log_style() -> dict[str, str]:
    """What a person at a terminal wants to read, unless the environment says otherwise."""
    style = {"log_format": "console", "log_level": "WARNING"} if sys.stdout.isatty() else {}
    return {name: value for name, value in style.items() if f"APP_{name.upper()}" not in os.environ}


async def _announce(runtimes: list[Runtime], url: str) -> None:
    for runtime in runtimes:
        await runtime.became_ready.wait()
    print(f"Tradestack is up: {url}", flush=True)
