"""What a running role has in its hands, and how it starts and ends."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import structlog
from prometheus_client import Counter, Gauge
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from app.kit import logs
from app.kit.bus import Bus
from app.kit.cache import Cache
from app.kit.errors import ConfigurationError, Unavailable
from app.kit.settings import Settings
from app.roles import Need, Role

if TYPE_CHECKING:
    from app.kit.database import Database

_CANCEL_SECONDS = 5.0
_log = logs.get(__name__)
_ready = Gauge("role_ready", "1 while the role takes requests", ["role"])
_restarts = Counter(
    "worker_restarts_total", "Background workers started again after a failure", ["role", "worker"]
)

Worker = Callable[[], Awaitable[None]]


def _log_waiting(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _log.warning("waiting", reason=str(error), attempt=state.attempt_number)


def retrying() -> AsyncRetrying:
    """Attempts for as long as a backing service is unavailable, 0.2 s to 5 s apart with jitter."""
    return AsyncRetrying(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        before_sleep=_log_waiting,
    )


class Backends:
    """The backing services of one process, each connected when first used and shared by all its roles.

    Adapters are imported when first used, too: a role needs few, and each costs memory and start time.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def check(self, needs: frozenset[Need]) -> None:
        """Raise ConfigurationError when the environment names no service for one of `needs`."""
        examples = {
            Need.DATABASE: (
                self._settings.database_url,
                "postgresql+asyncpg://trading@postgresql:5432/trading",
            ),
            Need.BUS: (self._settings.bus_url, "kafka://kafka:9092 or memory://"),
            Need.CACHE: (self._settings.cache_url, "redis://redis:6379/0 or memory://"),
        }
        missing = [
            f"APP_{need.upper()}_URL is not set: give it like {examples[need][1]}"
            for need in sorted(needs)
            if examples[need][0] is None
        ]
        if missing:
            raise ConfigurationError("\n".join(missing))

    @cached_property
    def database(self) -> "Database":
        """The database of APP_DATABASE_URL."""
        from app.kit.database import Database

        self.check(frozenset({Need.DATABASE}))
        return Database(str(self._settings.database_url), self._settings.password("database_password"))

    @cached_property
    def bus(self) -> Bus:
        """The bus of APP_BUS_URL."""
        self.check(frozenset({Need.BUS}))
        url = str(self._settings.bus_url)
        if url.startswith("kafka://"):
            from app.kit.bus.kafka import KafkaBus, msk_iam

            by_role = self._settings.bus_security == "msk-iam"
            security = msk_iam(str(self._settings.aws_region)) if by_role else None
            return KafkaBus(url.removeprefix("kafka://"), "tradestack", security)
        from app.kit.bus.memory import MemoryBus

        return MemoryBus()

    @cached_property
    def cache(self) -> Cache:
        """The cache of APP_CACHE_URL."""
        self.check(frozenset({Need.CACHE}))
        url = str(self._settings.cache_url)
        if url.startswith("redis"):
            from app.kit.cache.redis import RedisCache

            return RedisCache(url, self._settings.password("cache_password"))
        from app.kit.cache.memory import MemoryCache

        return MemoryCache()

    async def close(self) -> None:
        """Disconnect from what was used."""
        for name in ("bus", "cache", "database"):
            if name in self.__dict__:
                await self.__dict__[name].close()


class Server(Protocol):
    """What listens on a role's port."""

    async def start(self) -> str:
        """Listen; returns the base URL on the loopback address."""

    async def drain(self, seconds: float) -> None:
        """Take nothing new, finish what is open within `seconds`, then close."""


@dataclass
class Runtime:
    """One role in this process."""

    role: Role
    settings: Settings
    backends: Backends
    directory: dict[str, str] = field(default_factory=dict)
    """Addresses of the roles that run in this process, role name → base URL."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once, when the process was told to end."""
    ready: bool = False
    """Whether requests should come here: needs are met, nothing is draining."""
    became_ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the role was ready for the first time."""
    pending: str = "starting"
    """Why the role is not ready."""
    _ending: bool = False
    """A library may take the cancelling of a worker for an outage; then the worker is not started again."""

    def upstream(self, role: str) -> str:
        """Base URL of another role."""
        return self.directory.get(role) or self.settings.upstream(role)

    async def serve(
        self,
        server: Server,
        *workers: Worker,
        prepare: Worker | None = None,
        handed_over: Worker | None = None,
    ) -> None:
        """Listen, wait for the needs, prepare, run the workers; when told to stop, drain and return.

        Liveness answers from the first moment and depends on nothing; readiness follows the needs and
        `prepare`, which is tried again for as long as it raises Unavailable. `handed_over` returns when what
        this replica leads is in order for the next leader: the workers go on until then, for as long at most
        as the role may drain.
        """
        structlog.contextvars.bind_contextvars(role=self.role.name)
        self.directory[self.role.name] = url = await server.start()
        _log.info("listening", url=url)
        work = asyncio.create_task(self._work(workers, prepare))
        stop = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            self._set_ready(False, "draining")
            stop.cancel()
            await server.drain(self.role.drain_seconds)
            if handed_over is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.role.drain_seconds):
                        await handed_over()
            self._ending = True
            work.cancel()
            _, stuck = await asyncio.wait((work,), timeout=_CANCEL_SECONDS)
            _log.log(logging.ERROR if stuck else logging.INFO, "workers do not end" if stuck else "stopped")

    async def _work(self, workers: tuple[Worker, ...], prepare: Worker | None) -> None:
        async for attempt in retrying():
            with attempt:
                await self._meet_needs(prepare)
        self._set_ready(True, "")
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(self._supervise(worker))
            await asyncio.Event().wait()  # workers go on during the drain, until this task is cancelled

    async def _meet_needs(self, prepare: Worker | None) -> None:
        try:
            if Need.DATABASE in self.role.needs:
                from app.kit.schema import require_head

                await require_head(self.backends.database)
            if Need.CACHE in self.role.needs:
                await self.backends.cache.ping()
            if Need.BUS in self.role.needs:
                await self.backends.bus.ping()
            if prepare is not None:
                await prepare()
        except Unavailable as error:
            self.pending = str(error)
            raise

    async def _supervise(self, worker: Worker) -> None:
        """Run a worker for ever: an outage or an error in it is logged and it starts again after a pause."""
        name = getattr(worker, "__qualname__", type(worker).__name__)
        pause = 0.2
        loop = asyncio.get_running_loop()
        while not self._ending:
            begun = loop.time()
            try:
                await worker()
                return
            except Unavailable as error:
                _log.warning("worker waits", worker=name, reason=str(error))
            except Exception:
                _log.exception("worker failed", worker=name)
            _restarts.labels(self.role.name, name).inc()
            pause = 0.2 if loop.time() - begun > 30 else min(pause * 2, 5.0)
            await asyncio.sleep(pause)

    def _set_ready(self, ready: bool, pending: str) -> None:
        self.ready, self.pending = ready, pending
        if ready:
            self.became_ready.set()
        _ready.labels(self.role.name).set(ready)
        _log.info("ready" if ready else pending)
