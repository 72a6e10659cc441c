"""Consumers whose effect happens once, however often an event comes."""

import time
from collections.abc import Awaitable, Callable

from prometheus_client import Counter
from sqlalchemy import CursorResult, Double, String
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.events.envelope import Envelope
from app.kit.bus import Bus
from app.kit.database import Base, Database

consumed = Counter("events_consumed_total", "Events handled", ["consumer", "outcome"])

Handler = Callable[[AsyncSession, Envelope], Awaitable[None]]


class ConsumedEvent(Base):
    """An event that a consumer has dealt with."""

    __tablename__ = "consumed_events"

    consumer: Mapped[str] = mapped_column(String(80), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(120), primary_key=True)
    consumed_at: Mapped[float] = mapped_column(Double)


async def first_time(database: Database, session: AsyncSession, consumer: str, event_id: str) -> bool:
    """Record the event in the transaction of its effect; False when it was recorded before."""
    statement = database.insert(ConsumedEvent).values(
        consumer=consumer, event_id=event_id, consumed_at=time.time()
    )
    result = await session.execute(statement.on_conflict_do_nothing())
    return isinstance(result, CursorResult) and result.rowcount == 1


async def consume(
    bus: Bus, database: Database, consumer: str, topics: tuple[str, ...], handler: Handler
) -> None:
    """Give every event of `topics` to `handler`, once, in a transaction; run until cancelled.

    `consumer` is also the name of the shared group. The offset is committed after the transaction.

    Raises:
        Unavailable: bus or database are gone; to be started again, the event comes again.
    """
    subscription = await bus.subscribe(topics, consumer)
    try:
        while True:
            messages = await subscription.batch(limit=100, seconds=1.0)
            for message in messages:
                event = Envelope.decode(message.value)
                async with database.transaction() as session:
                    first = await first_time(database, session, consumer, event.id)
                    if first:
                        await handler(session, event)
                consumed.labels(consumer, "done" if first else "repeated").inc()
            await subscription.commit(messages)
    finally:
        await subscription.close()
