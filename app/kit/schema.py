"""The database schema: Alembic scripts in app/migrations, for PostgreSQL and SQLite alike."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app.kit.database import Database
from app.kit.errors import Unavailable

_SCRIPTS = Path(__file__).resolve().parent.parent / "migrations"
_LOCK = 4_710_001
"""Key of the advisory lock that keeps two migration runs apart."""


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The newest revision that this code knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None  # noqa: S101 - the scripts are part of this package
    return revision


async def current(database: Database) -> str | None:
    """The revision that the database is at; None when it is empty."""
    async with database.engine.connect() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


async def to(database: Database, revision: str = "head") -> None:
    """Upgrade, or downgrade when `revision` is `base` or relative like `-1`; all of it in one transaction."""

    def work(connection: Connection) -> None:
        if database.is_postgresql:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        down = revision == "base" or revision.startswith("-")
        (command.downgrade if down else command.upgrade)(_config(connection), revision)

    async with database.engine.begin() as connection:
        await connection.run_sync(work)


async def require_head(database: Database) -> None:
    """Return when the schema is the one that this code was written for, or a newer one.

    Raises:
        Unavailable: the migrations have not run yet.
    """
    async with database.transaction(read_only=True):
        revision = await current(database)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is None or (revision in known and revision != head()):
        raise Unavailable(
            "database", f"schema is at {revision}, {head()} is needed: run `python -m app migrate`"
        )
