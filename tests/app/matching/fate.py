"""Engines that are killed in the middle of anything."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from app.events import books
from app.kit.bus import Bus, Record
from app.kit.bus.memory import MemoryBus
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.kit.lease import Lease, LeaseRow
from app.matching.service import LEASE, Engine
from app.matching.store import Store
from app.risk.repository import LimitsRepository
from tests.app.matching.machine import Machine


class Fate:
    """Counts what a process does with the outside; it dies at the step `fatal`, in the middle of it."""

    def __init__(self, fatal: int) -> None:
        self._left = fatal
        self.died = asyncio.Event()

    def soon(self, steps: int) -> None:
        """Die so many steps from now."""
        self._left = steps

    async def step(self, *, locked: bool = False) -> None:
        """Die here, if it is time; `locked` says that what is held must be let go of, as a kill does."""
        if self.died.is_set():
            raise Unavailable("everything", "this process is dead")
        self._left -= 1
        if self._left == 0:
            self.died.set()
            if locked:
                raise Unavailable("everything", "this process is dead")
            await asyncio.Event().wait()


class MortalDatabase(Database):
    """Three steps for each transaction: before it begins, before it is committed, after."""

    def __init__(self, database: Database, fate: Fate) -> None:
        self.__dict__.update(database.__dict__)
        self._database, self._fate = database, fate

    @asynccontextmanager
    async def transaction(self, *, read_only: bool = False) -> AsyncIterator[AsyncSession]:
        await self._fate.step()
        async with self._database.transaction(read_only=read_only) as session:
            yield session
            await self._fate.step(locked=not self.is_postgresql)
        await self._fate.step()


class MortalBus(MemoryBus):
    """Two steps for each publication; none for books: their pace would leave the death to chance."""

    def __init__(self, bus: Bus, fate: Fate) -> None:
        super().__init__()
        self._bus, self._fate = bus, fate

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        if topic == books.TOPIC and not self._fate.died.is_set():
            await self._bus.publish(topic, records)
            return
        await self._fate.step()
        await self._bus.publish(topic, records)
        await self._fate.step()


def mortal(machine: Machine, fate: Fate) -> Engine:
    """An engine of a process that dies."""
    database = MortalDatabase(machine.database, fate)
    lease = Lease(database, LEASE, "http://here:1", 60)
    store = Store.of(database, lease, machine.wallet.orders)
    return machine.engine(store=store, bus=MortalBus(machine.bus, fate), limits=LimitsRepository(database))


async def bury(machine: Machine, task: "asyncio.Task[None]") -> None:
    """End what is left of a killed process; its lease runs out."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with machine.database.transaction() as session:
        await session.execute(update(LeaseRow).values(expires_at=0))
