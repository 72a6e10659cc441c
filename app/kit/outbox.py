"""Events that leave with the transaction they belong to.

A producer writes a row in its own transaction; the relay publishes rows afterwards, at least once and in
order for each key.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from zlib import crc32

from prometheus_client import Counter, Gauge
from sqlalchemy import (
    BigInteger,
    Double,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    delete,
    func,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.events.envelope import Envelope
from app.events.registry import topic_of
from app.kit.bus import Bus, Record
from app.kit.database import Base, Database

SHARDS = 8
"""Keys are spread over so many shards; each is relayed by one process at a time."""
_BATCH = 500
_IDLE_SECONDS = 0.25
_LOCKS = 4_720_000
"""First of the advisory lock keys, one for each shard."""

oldest_age = Gauge("outbox_oldest_age_seconds", "Age of the oldest event that waits in the outbox")
relayed = Counter("outbox_relayed_total", "Events published from the outbox")


class OutboxRow(Base):
    """One event that waits to be published."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    topic: Mapped[str] = mapped_column(String(120))
    key: Mapped[str] = mapped_column(String(120))
    shard: Mapped[int] = mapped_column(SmallInteger)
    value: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[float] = mapped_column(Double)


async def write(session: AsyncSession, events: Sequence[Envelope]) -> None:
    """Add events to the transaction of `session`.

    On PostgreSQL ids are given out before the commit, so two writers of one key would be free to commit in
    the other order: a lock on the shard, held to the end of the transaction, rules that out. Locks are taken
    in ascending order; call this once, last in the transaction.
    """
    if not events:
        return
    rows = [
        OutboxRow(
            topic=topic_of(event.type),
            key=event.key,
            shard=crc32(event.key.encode()) % SHARDS,
            value=event.encode(),
            created_at=time.time(),
        )
        for event in events
    ]
    if session.get_bind().dialect.name == "postgresql":
        for shard in sorted({row.shard for row in rows}):
            await session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCKS + SHARDS + shard})"))
    session.add_all(rows)
    await session.flush()


class Relay:
    """Publishes the outbox. Any number of processes may run one: a shard belongs to one of them at a time."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus

    async def run(self) -> None:
        """Relay until cancelled.

        Raises:
            Unavailable: database or bus are gone; to be started again.
        """
        while True:
            moved = 0
            for shard in await self._waiting():
                moved += await self.relay_shard(shard)
            if not moved:
                await asyncio.sleep(_IDLE_SECONDS)

    async def relay_shard(self, shard: int) -> int:
        """Publish the oldest events of a shard and remove them; returns how many."""
        async with self._owned(shard) as mine:
            if not mine:
                return 0
            oldest = select(OutboxRow).where(OutboxRow.shard == shard).order_by(OutboxRow.id).limit(_BATCH)
            async with self._database.transaction(read_only=True) as session:
                rows = (await session.scalars(oldest)).all()
            by_topic: dict[str, list[OutboxRow]] = {}
            for row in rows:
                by_topic.setdefault(row.topic, []).append(row)
            for topic, waiting in by_topic.items():
                await self._bus.publish(topic, [Record(row.key, row.value) for row in waiting])
            if rows:
                async with self._database.transaction() as session:
                    await session.execute(delete(OutboxRow).where(OutboxRow.id.in_([row.id for row in rows])))
            relayed.inc(len(rows))
            return len(rows)

    @asynccontextmanager
    async def _owned(self, shard: int) -> AsyncIterator[bool]:
        """Whether this process may relay the shard now. SQLite serves one process, so there it may."""
        if not self._database.is_postgresql:
            yield True
            return
        async with self._database.transaction() as session:
            lock = text(f"SELECT pg_try_advisory_xact_lock({_LOCKS + shard})")
            yield bool(await session.scalar(lock))

    async def _waiting(self) -> list[int]:
        """Shards that hold events; also measures the age of the oldest one."""
        by_shard = select(OutboxRow.shard, func.min(OutboxRow.created_at)).group_by(OutboxRow.shard)
        async with self._database.transaction(read_only=True) as session:
            found = (await session.execute(by_shard)).all()
        oldest_age.set(max((time.time() - created for _, created in found), default=0.0))
        return [shard for shard, _ in found]
