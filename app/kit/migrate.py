"""The task that brings the database schema to the newest revision."""

from app.kit import logs, schema
from app.kit.runtime import Runtime, retrying

_log = logs.get(__name__)


async def run(runtime: Runtime) -> None:
    """Wait for the database and upgrade it."""
    database = runtime.backends.database
    async for attempt in retrying():
        with attempt:
            await database.ping()
    await schema.to(database)
    _log.info("migrated", revision=schema.head())
