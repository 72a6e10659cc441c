"""The schema goes up, down and up again, and is what the models say."""

import re

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from app.kit import inbox, outbox, schema
from app.kit.database import Base, Database
from app.kit.errors import Unavailable
from app.market_data import models

MODELS = (
    outbox.OutboxRow,
    inbox.ConsumedEvent,
    models.CandleRow,
    models.HourRow,
    models.DayRow,
    models.InstrumentRow,
    models.ProgressRow,
    models.PlaceRow,
)
PARTITION = re.compile(r"candles?_(hours_)?\d{4}_\d\d")


async def tables(database: Database) -> set[str]:
    async with database.engine.connect() as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    return set(names) - {"alembic_version"}


async def test_up_down_up(empty_database: Database) -> None:
    await schema.to(empty_database, "head")
    made = await tables(empty_database)
    assert {model.__tablename__ for model in MODELS} <= made
    await schema.to(empty_database, "base")
    assert await tables(empty_database) == set()
    await schema.to(empty_database, "head")
    assert await tables(empty_database) == made
    assert await schema.current(empty_database) == schema.head()


async def test_upgrading_twice_changes_nothing(database: Database) -> None:
    await schema.to(database)
    assert await schema.current(database) == schema.head()


async def test_models_and_schema_agree(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        def include(_: object, name: str | None, kind: str, *__: object) -> bool:
            return not (kind == "index" or (kind == "table" and PARTITION.fullmatch(str(name))))

        context = MigrationContext.configure(connection, opts={"include_object": include})
        return list(compare_metadata(context, Base.metadata))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_an_empty_database_is_told_apart(empty_database: Database) -> None:
    with pytest.raises(Unavailable, match="python -m app migrate"):
        await schema.require_head(empty_database)


async def test_a_newer_schema_than_the_code_knows_is_accepted(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await schema.require_head(database)
