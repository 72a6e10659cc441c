"""The schema goes up, down and up again, and is what the models say."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from app.kit import inbox, migrate, outbox
from app.kit.database import Base, Database
from app.kit.errors import Unavailable
from app.market_data import models

MODELS = (outbox.OutboxRow, inbox.ConsumedEvent, models.CandleRow, models.InstrumentRow, models.ProgressRow)


async def tables(database: Database) -> set[str]:
    async with database.engine.connect() as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    return set(names) - {"alembic_version"}


async def test_up_down_up(empty_database: Database) -> None:
    await migrate.to(empty_database, "head")
    made = await tables(empty_database)
    assert {model.__tablename__ for model in MODELS} <= made
    await migrate.to(empty_database, "base")
    assert await tables(empty_database) == set()
    await migrate.to(empty_database, "head")
    assert await tables(empty_database) == made
    assert await migrate.current(empty_database) == migrate.head()


async def test_upgrading_twice_changes_nothing(database: Database) -> None:
    await migrate.to(database)
    assert await migrate.current(database) == migrate.head()


async def test_models_and_schema_agree(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        def include(_: object, name: str | None, kind: str, *__: object) -> bool:
            return not (kind == "index" or (kind == "table" and str(name).startswith("candles_")))

        context = MigrationContext.configure(connection, opts={"include_object": include})
        return list(compare_metadata(context, Base.metadata))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_an_empty_database_is_told_apart(empty_database: Database) -> None:
    with pytest.raises(Unavailable, match="python -m app migrate"):
        await migrate.require_head(empty_database)


async def test_a_newer_schema_than_the_code_knows_is_accepted(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await migrate.require_head(database)
