"""Events that leave with the transaction they belong to.

A producer writes a row in its own transaction; the relay publishes rows afterwards, at least once and in
order for each key.
"""

import asyncio
import time
from collections.abc import Sequence
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
    insert,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.events.envelope import Envelope
from app.events.registry import topic_of
from app.kit.bulk import table_of
from app.kit.bus import Bus, Record
from app.kit.database import Base, Database

SHARDS = 8
"""Keys are spread over so many shards; transactions that write to one shard are committed one by one."""
_BATCH = 1000
_IDLE_SECONDS = 0.25
_PAUSE_SECONDS = 0.1
"""Between two turns while there is something to do: what comes meanwhile goes together."""
_LOCKS = 4_720_000
"""Advisory lock of the relay; those of the shards follow."""

oldest_age = Gauge(
    "outbox_oldest_age_seconds", "Age of the oldest event in the outbox, in the process that relays"
)
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
    now = time.time()
    rows = [
        {
            "topic": topic_of(event.type),
            "key": event.key,
            "shard": crc32(event.key.encode()) % SHARDS,
            "value": event.encode(),
            "created_at": now,
        }
        for event in events
    ]
    if session.get_bind().dialect.name == "postgresql":
        keys = sorted({_LOCKS + 1 + int(str(row["shard"])) for row in rows})
        await session.execute(_LOCK_ALL, {"keys": keys})
    await session.execute(_INSERT, rows)


_TABLE = table_of(OutboxRow)
_INSERT = insert(_TABLE)
_LOCK_ALL = text(
    "SELECT pg_advisory_xact_lock(key) FROM"
    " (SELECT key FROM unnest(CAST(:keys AS bigint[])) AS key ORDER BY key OFFSET 0) AS ordered"
)
_TRY = text(f"SELECT pg_try_advisory_xact_lock({_LOCKS})")
_TAKE = (
    delete(_TABLE)
    .where(_TABLE.c.id.in_(select(_TABLE.c.id).order_by(_TABLE.c.id).limit(_BATCH).scalar_subquery()))
    .returning(_TABLE.c.id, _TABLE.c.topic, _TABLE.c.key, _TABLE.c.value, _TABLE.c.created_at)
)


class Relay:
    """Publishes the outbox. Any number of processes may run one; they take turns."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus

    async def run(self) -> None:
        """Relay until cancelled.

        Raises:
            Unavailable: database or bus are gone; to be started again.
        """
        while True:
            moved = await self.relay()
            if moved < _BATCH:
                await asyncio.sleep(_PAUSE_SECONDS if moved else _IDLE_SECONDS)

    async def relay(self) -> int:
        """Publish the oldest events and remove them; returns how many, 0 while another process does that.

        They are removed in the transaction that is open while they are published: when it is not committed,
        they are published again. SQLite serves one process, which needs no lock.
        """
        async with self._database.transaction() as session:
            if self._database.is_postgresql and not await session.scalar(_TRY):
                oldest_age.set(0)
                return 0
            rows = sorted((await session.execute(_TAKE)).all())
            oldest_age.set(max((time.time() - row.created_at for row in rows), default=0.0))
            by_topic: dict[str, list[Record]] = {}
            for _, topic, key, value, _ in rows:
                by_topic.setdefault(topic, []).append(Record(key, value))
            for topic, records in by_topic.items():
                await self._bus.publish(topic, records)
        relayed.inc(len(rows))
        return len(rows)
