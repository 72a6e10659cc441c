"""One term of leadership: everything that only the leader does, from recovery to handing over."""

import asyncio
import time
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from app.exchange import Phase
from app.kit import logs
from app.kit.bus import Bus
from app.kit.errors import Unavailable
from app.kit.lease import LeaseLost
from app.kit.problems import Problem
from app.matching import metrics, sessions
from app.matching.depth import BookPublisher
from app.matching.plan import Planner, References
from app.matching.publisher import Publisher
from app.matching.recovery import recover
from app.matching.repository import PUBLISHED
from app.matching.republish import Republisher
from app.matching.settings import MatchingSettings
from app.matching.store import Store
from app.matching.tasks import Advance, Lapse, Task
from app.matching.writer import Writer
from app.matching_client.commands import CancelAll, SetPhase
from app.risk.repository import LimitsRepository
from app.wallet.fees import FeeSchedule

Worker = Callable[[], Coroutine[None, None, None]]
_DUE_SECONDS: Final = 0.25
_PROGRESS_SECONDS: Final = 1.0
_LIMITS_SECONDS: Final = 2.0
_PRUNE_SECONDS: Final = 600.0
_GOODBYE_SECONDS: Final = 3.0
_DAY_MS: Final = 86_400_000
_log = logs.get(__name__)


@dataclass(frozen=True)
class Parts:
    """What every term is made of."""

    store: Store
    bus: Bus
    limits: LimitsRepository
    references: References
    fees: FeeSchedule
    settings: MatchingSettings
    clock: Callable[[], int]
    """Unix time in milliseconds."""


class Term:
    """The leader with its state; made by `begin`."""

    def __init__(self, parts: Parts, token: int) -> None:
        self._parts = parts
        self.token = token
        self._limits_version = -1
        self._snapshot_at = time.monotonic()
        self._snapshot_commands = 0
        self._snapshot_batch = 0

    async def begin(self) -> None:
        """Restore the state; afterwards `run` may be called.

        Raises:
            Unavailable: the database does not answer.
        """
        parts = self._parts
        async with parts.store.database.transaction(read_only=True) as session:
            _, limits = await parts.limits.load(session)
            published = await parts.store.journal.progress(session, PUBLISHED)
        self.publisher = Publisher(parts.bus, published, parts.settings.most_unpublished)
        found = await recover(parts.store, limits, self.publisher.add)
        self.books, self.risk, self.accounts = found.books, found.risk, found.accounts
        planner = Planner(self.books, self.risk, self.accounts, parts.fees, parts.references)
        self.writer = Writer(
            parts.store,
            self.token,
            self.books,
            self.accounts,
            planner,
            self.publisher,
            last_order=found.last_order,
            deadlines=found.deadlines,
            most=parts.settings.most_waiting,
            clock=parts.clock,
        )
        self.republisher = Republisher(parts.store, parts.bus, self.books, self.accounts, self.publisher)
        self.depth = BookPublisher(
            parts.bus, self.token, self.books, parts.settings.book_seconds, parts.clock
        )
        self._progress = published

    async def run(self) -> None:
        """Lead until cancelled.

        Raises:
            LeaseLost, InDoubt, Unavailable: the term is over; in a group of exceptions.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for work in (
                    self.writer.run,
                    self.publisher.run,
                    self.depth.run,
                    self._every(_DUE_SECONDS, self._do_what_is_due),
                    self._every(_PROGRESS_SECONDS, self.keep_progress),
                    self._every(_LIMITS_SECONDS, self._look_at_limits),
                    self._every(1.0, self._snapshot_when_due),
                    self._every(_PRUNE_SECONDS, self.prune),
                    self._keep_hours,
                    self.republisher.run,
                ):
                    group.create_task(work())
        finally:
            self.writer.close()

    async def keep_lease(self) -> None:
        """Keep the lease, from before `begin` on, until cancelled.

        Raises:
            LeaseLost: somebody else has it, or the database was away for too long.
        """
        ttl = self._parts.settings.lease_seconds
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(ttl / 3)
            begun = time.monotonic()
            try:
                async with asyncio.timeout(ttl):
                    await self._parts.store.lease.renew(self.token)
                renewed = begun
            except (Unavailable, TimeoutError) as error:
                _log.warning("the lease is not renewed", reason=str(error))
                if time.monotonic() - renewed > ttl:
                    raise LeaseLost("it could not be renewed in time") from error

    async def end(self) -> None:
        """Finish what was begun, as far as that is quick, while `run` still runs."""
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self.writer.drain()
                await self.publisher.drain()
                await self.keep_progress()
                await self.snapshot()
        except (TimeoutError, Unavailable, LeaseLost) as error:
            _log.warning("left in haste", reason=repr(error))

    async def reload_limits(self) -> None:
        """Take limits and switches as they are in the database; raises Unavailable."""
        async with self._parts.store.database.transaction(read_only=True) as session:
            self._limits_version, self.risk.limits = await self._parts.limits.load(session)
        self._enforce_switches()

    async def snapshot(self) -> None:
        """Keep the state as it is now, unless that is done already; raises Unavailable, LeaseLost."""
        store, batch, at = self._parts.store, self.books.batch, self.books.at
        self._snapshot_at, self._snapshot_commands = time.monotonic(), self.writer.commands
        if batch == self._snapshot_batch:
            return
        parts, sequences = self.books.dump(), self.books.sequences()
        state = await asyncio.to_thread(lambda: zlib.compress(b"".join(parts), 1))
        async with store.database.transaction() as session:
            await store.lease.check(session, self.token)
            await store.journal.save_snapshot(session, batch, at, sequences, state)
        self._snapshot_batch = batch
        metrics.snapshot_batch.set(batch)
        _log.info("snapshot", batch=batch, bytes=len(state))

    async def keep_progress(self) -> None:
        """Remember what is on the bus; raises Unavailable."""
        published = self.publisher.published
        if published > self._progress:
            async with self._parts.store.database.transaction() as session:
                await self._parts.store.journal.set_progress(session, PUBLISHED, published)
            self._progress = published

    def _every(self, seconds: float, work: Worker) -> Worker:
        async def repeat() -> None:
            while True:
                try:
                    await work()
                except Unavailable as error:
                    _log.warning("later", work=work.__name__, reason=str(error))
                await asyncio.sleep(seconds)

        return repeat

    async def _do_what_is_due(self) -> None:
        """Expire orders, and cancel those of owners who were not heard of."""
        now = self._parts.clock()
        for symbol, engine in self.books.engines.items():
            expiries = engine.book.expiries
            if expiries and expiries[0][0] <= now:
                await self._told(Advance(symbol))
        for owner in [owner for owner, deadline in self.writer.deadlines.items() if deadline <= now]:
            await self._told(Lapse(owner))

    async def _told(self, task: Task) -> None:
        try:
            await self.writer.submit(task)
        except Problem as problem:
            _log.warning("later", work=task.kind, reason=str(problem))

    async def _keep_hours(self) -> None:
        def phases() -> dict[str, Phase]:
            return {symbol: engine.book.phase for symbol, engine in self.books.engines.items()}

        async def submit(command: SetPhase) -> None:
            try:
                await self._told(command)
            except Unavailable as error:
                _log.warning("later", work="session", reason=str(error))

        def now() -> datetime:
            return datetime.fromtimestamp(self._parts.clock() / 1000, UTC)

        await sessions.keep_hours(phases, submit, now)

    async def _look_at_limits(self) -> None:
        async with self._parts.store.database.transaction(read_only=True) as session:
            version = await self._parts.limits.version(session)
        if version != self._limits_version:
            await self.reload_limits()
        else:
            self._enforce_switches()

    def _enforce_switches(self) -> None:
        """Cancel what is open although a kill switch is against it; what is halted, once that is over."""
        limits = self.risk.limits
        if not (limits.stopped or limits.stopped_symbols or limits.stopped_users):
            return
        for symbol, engine in self.books.engines.items():
            if engine.book.phase is not Phase.HALTED:
                for account in {order.account for order in engine.book.orders.values()}:
                    owner = self.accounts.owner(account)
                    if self.risk.switched_off(owner, symbol):
                        self._ask(CancelAll(owner=owner, symbol=symbol))

    def _ask(self, task: Task) -> None:
        """Have something carried out; it is asked for again if it has to be."""
        try:
            self.writer.submit(task).add_done_callback(lambda answer: answer.exception())
        except (Problem, Unavailable) as error:
            _log.warning("later", work=task.kind, reason=str(error))

    async def _snapshot_when_due(self) -> None:
        settings = self._parts.settings
        many = self.writer.commands - self._snapshot_commands >= settings.snapshot_commands
        if many or time.monotonic() - self._snapshot_at >= settings.snapshot_seconds:
            await self.snapshot()

    async def prune(self) -> None:
        """Remove what is old and not needed; raises Unavailable, LeaseLost."""
        before = self._parts.clock() - int(self._parts.settings.keep_days * _DAY_MS)
        store = self._parts.store
        async with store.database.transaction() as session:
            await store.lease.check(session, self.token)
            await store.journal.prune(session, self._progress, before)
