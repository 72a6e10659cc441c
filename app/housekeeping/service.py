"""The job that deletes what no one needs any longer.

Events of the outbox are removed by the relay as soon as they are published; what is left there still waits.
Only the records of consumed events grow: they are needed for as long as an event can come again.
"""

import time

from prometheus_client import Counter
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import delete, select, tuple_

from app.kit import logs
from app.kit.database import Database
from app.kit.errors import ConfigurationError
from app.kit.inbox import ConsumedEvent
from app.kit.runtime import Runtime, retrying
from app.kit.schema import require_head

_BATCH = 1000
_DAY = 86_400
_log = logs.get(__name__)
_deleted = Counter("housekeeping_deleted_total", "Rows deleted", ["table"])


class HousekeepingSettings(BaseSettings):
    """How long records are kept."""

    model_config = SettingsConfigDict(env_prefix="APP_", extra="ignore", frozen=True)

    inbox_days: int = Field(default=30, ge=21, le=3650)
    """An event can come again from a topic for 7 days, from a queue and its dead letters for 18."""


async def forget_events(database: Database, before: float) -> int:
    """Delete the records of events consumed before a Unix time, in short transactions; returns how many.

    Raises:
        Unavailable: the database is gone; what was deleted stays deleted.
    """
    key = tuple_(ConsumedEvent.consumer, ConsumedEvent.event_id)
    oldest = (
        select(ConsumedEvent.consumer, ConsumedEvent.event_id)
        .where(ConsumedEvent.consumed_at < before)
        .order_by(ConsumedEvent.consumed_at)
        .limit(_BATCH)
    )
    total = 0
    while True:
        async with database.transaction() as session:
            found = [tuple(row) for row in await session.execute(oldest)]
            if found:
                await session.execute(delete(ConsumedEvent).where(key.in_(found)))
        total += len(found)
        _deleted.labels(ConsumedEvent.__tablename__).inc(len(found))
        if len(found) < _BATCH:
            return total


async def run(runtime: Runtime) -> None:
    """Run the job to its end; waits for the database.

    Raises:
        ConfigurationError: APP_INBOX_DAYS is out of bounds.
    """
    try:
        settings = HousekeepingSettings()
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ConfigurationError(f"APP_INBOX_DAYS={wrong['input']!r}: {wrong['msg']}") from None
    database = runtime.backends.database
    async for attempt in retrying():
        with attempt:
            await require_head(database)
            deleted = await forget_events(database, time.time() - settings.inbox_days * _DAY)
    _log.info("cleaned", consumed_events=deleted, older_than_days=settings.inbox_days)
