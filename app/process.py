"""A process: builds what its roles need, runs them, ends on SIGTERM."""

import asyncio
import os
import signal
from collections.abc import Iterable, Sequence
from importlib import import_module

from app.kit import logs
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from app.roles import ROLES


async def run_roles(names: Sequence[str]) -> None:
    """Run roles until SIGTERM or SIGINT; tasks and jobs run to their end.

    Raises:
        ConfigurationError: the environment lacks something; nothing was started.
    """
    settings = Settings.load()
    logs.configure(settings)
    backends = Backends(settings)
    stopping = stop_on_signal()
    directory: dict[str, str] = {}
    runtimes = [Runtime(ROLES[name], settings, backends, directory, stopping) for name in names]
    for runtime in runtimes:
        backends.check(runtime.role.needs)
    await run(runtimes, backends)


async def run(runtimes: Iterable[Runtime], backends: Backends) -> None:
    """Run the entries of some roles side by side; a failure of one ends all."""
    try:
        async with asyncio.TaskGroup() as group:
            for runtime in runtimes:
                group.create_task(_entry(runtime))
    except* Exception as failures:
        raise failures.exceptions[0] from None
    finally:
        await backends.close()


async def _entry(runtime: Runtime) -> None:
    module, _, function = runtime.role.entry.partition(":")
    work = asyncio.ensure_future(getattr(import_module(module), function)(runtime))
    if runtime.role.ends:
        stop = asyncio.create_task(runtime.stopping.wait())
        await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not work.done():
            work.cancel()
            raise SystemExit(143)
    await work


def stop_on_signal() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; a second signal ends the process at once."""
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            os._exit(130)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return stopping


async def migrate_to(revision: str) -> None:
    """Bring the database to a revision; `base` empties it."""
    from app.kit import migrate, schema

    settings = Settings.load()
    logs.configure(settings)
    backends = Backends(settings)
    runtime = Runtime(ROLES["migrate"], settings, backends)
    try:
        await (migrate.run(runtime) if revision == "head" else schema.to(backends.database, revision))
    finally:
        await backends.close()


def healthcheck(role: str) -> int:
    """0 when the role answers on this machine that it is ready, else 1."""
    import httpx

    port = Settings.load().port or ROLES[role].port
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=3)
    except httpx.HTTPError as error:
        print(f"{role} on port {port}: {error}")
        return 1
    print(f"{role} on port {port}: {answer.text}")
    return 0 if answer.status_code == 200 else 1
