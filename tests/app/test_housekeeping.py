"""Housekeeping: old records of consumed events go, everything else stays."""

import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from app.events.accounts import UserCreated
from app.events.envelope import Envelope
from app.housekeeping import service
from app.housekeeping.service import forget_events
from app.kit import outbox, schema
from app.kit.database import Database
from app.kit.errors import ConfigurationError
from app.kit.inbox import ConsumedEvent, first_time
from app.kit.outbox import OutboxRow
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from app.roles import ROLES

DAY = 86_400


async def consume(database: Database, ages: dict[str, float]) -> None:
    async with database.transaction() as session:
        for name, days in ages.items():
            row = ConsumedEvent(consumer="c", event_id=name, consumed_at=time.time() - days * DAY)
            session.add(row)


async def kept(database: Database) -> set[str]:
    async with database.transaction(read_only=True) as session:
        return set(await session.scalars(select(ConsumedEvent.event_id)))


async def test_only_old_records_are_deleted(database: Database) -> None:
    await consume(database, {"old": 31, "older": 400, "new": 29})
    assert await forget_events(database, time.time() - 30 * DAY) == 2
    assert await kept(database) == {"new"}
    assert await forget_events(database, time.time() - 30 * DAY) == 0


async def test_many_records_are_deleted_in_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_BATCH", 10)
    await consume(database, {f"e{number}": 40 for number in range(25)} | {"new": 1})
    assert await forget_events(database, time.time() - 30 * DAY) == 25
    assert await kept(database) == {"new"}


async def test_what_is_remembered_is_still_not_handled_twice(database: Database) -> None:
    await consume(database, {"new": 1})
    await forget_events(database, time.time() - 30 * DAY)
    async with database.transaction() as session:
        assert not await first_time(database, session, "c", "new")


async def test_events_that_wait_to_be_published_stay(database: Database) -> None:
    event = Envelope.of(UserCreated(user="u"), key="u", producer="test")
    async with database.transaction() as session:
        await outbox.write(session, [event])
    async with database.transaction() as session:
        row = (await session.scalars(select(OutboxRow))).one()
        row.created_at = 0.0
    await forget_events(database, time.time())
    async with database.transaction(read_only=True) as session:
        assert await session.scalar(select(func.count()).select_from(OutboxRow)) == 1


async def test_the_job_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_INBOX_DAYS", "60")
    settings = Settings.load(database_url=f"sqlite+aiosqlite:///{tmp_path}/app.db")
    backends = Backends(settings)
    await schema.to(backends.database)
    await consume(backends.database, {"kept": 59, "old": 61})
    await service.run(Runtime(ROLES["housekeeping"], settings, backends))
    assert await kept(backends.database) == {"kept"}
    await backends.close()


async def test_a_time_within_which_events_come_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_INBOX_DAYS", "3")
    settings = Settings.load()
    with pytest.raises(ConfigurationError, match=r"APP_INBOX_DAYS='3'.*greater than or equal to 21"):
        await service.run(Runtime(ROLES["housekeeping"], settings, Backends(settings)))
