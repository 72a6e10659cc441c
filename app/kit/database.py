"""The relational database: PostgreSQL in a cluster, SQLite in one process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, MetaData, event, make_url, text
from sqlalchemy.dialects import postgresql, registry, sqlite
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.util.concurrency import in_greenlet

from app.kit.errors import Unavailable

_LOCK_SECONDS = 10
"""How long a transaction waits for the one writer of SQLite before the database counts as unavailable."""


class Base(DeclarativeBase):
    """Parent of every table; constraint names are fixed so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Database:
    """Engine and sessions of one database.

    `url` is SQLAlchemy's; `?ssl=require` makes the connection encrypted. `password` is asked anew for every
    connection, so that a rotated password needs no restart.
    """

    def __init__(
        self, url: str, password: str | Callable[[], str | None] | None = None, *, pool_size: int = 5
    ) -> None:
        parsed = make_url(url)
        connect_args: dict[str, Any] = {"timeout": 5, "command_timeout": 30}
        if isinstance(password, str):
            parsed = parsed.set(password=password)
        elif password is not None and password() is not None:
            connect_args["password"] = password
        self.dialect = parsed.get_backend_name()
        """`postgresql` or `sqlite`."""
        if self.is_postgresql:
            self.engine: AsyncEngine = create_async_engine(
                parsed,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_pre_ping=True,
                pool_timeout=5,
                connect_args=connect_args,
            )
        else:
            self.engine = create_async_engine(parsed.set(drivername=_Sqlite.url_name))
            _prepare_sqlite(self.engine)
        self._writing = asyncio.Lock()
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @property
    def is_postgresql(self) -> bool:
        """Whether statements of PostgreSQL alone may be used."""
        return self.dialect == "postgresql"

    @asynccontextmanager
    async def transaction(self, *, read_only: bool = False) -> AsyncIterator[AsyncSession]:
        """A session whose work is committed when the body ends and rolled back when it raises.

        Raises:
            Unavailable: the database does not answer, refuses this user or broke the connection.
        """
        try:
            async with self._turn(read_only), self._sessions() as session, session.begin():
                await session.connection(execution_options={"read_only": read_only})
                yield session
        except (OperationalError, InterfaceError, OSError, TimeoutError) as error:
            raise Unavailable("database", error) from error
        except DBAPIError as error:
            if error.connection_invalidated or _is_refused(error):
                raise Unavailable("database", error) from error
            raise

    @asynccontextmanager
    async def _turn(self, read_only: bool) -> AsyncIterator[None]:
        """One writer at a time on SQLite: who waits here can be cancelled, who waits in its thread cannot."""
        if self.is_postgresql or read_only:
            yield
            return
        async with asyncio.timeout(_LOCK_SECONDS):
            await self._writing.acquire()
        try:
            yield
        finally:
            self._writing.release()

    def insert(self, table: Any) -> "postgresql.Insert | sqlite.Insert":
        """An INSERT that knows ON CONFLICT in the dialect of this database."""
        return postgresql.insert(table) if self.is_postgresql else sqlite.insert(table)

    async def ping(self) -> None:
        """Return when the database answers.

        Raises:
            Unavailable: it does not.
        """
        async with self.transaction(read_only=True) as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def _is_refused(error: DBAPIError) -> bool:
    """Whether nobody is let in, by the SQLSTATE: class 28, as while a rotated password is on its way here,
    and 57P, as while the server is stopped or starts."""
    return str(getattr(error.orig, "sqlstate", "")).startswith(("28", "57P"))


class _Sqlite(SQLiteDialect_aiosqlite):
    """Gives up a connection whose task was cancelled so that nothing waits for it, lock or thread.

    SQLAlchemy's way closes it in a task of its own and, cancelled once more, also stops the connection's
    thread: the close then waits for ever for a thread that has ended. And SQLite keeps the transaction of a
    closed connection, with its lock, for as long as a cursor on an unread result is anywhere in memory.
    """

    url_name = "sqlite+tradestack"
    supports_statement_cache = True

    def do_terminate(self, dbapi_connection: Any) -> None:
        """Let the statement that runs end, roll back, close."""
        if not in_greenlet():  # from the garbage collector: nothing can be awaited
            super().do_terminate(dbapi_connection)
            return
        try:
            dbapi_connection.rollback()
        finally:
            dbapi_connection.close()


registry.register(_Sqlite.url_name.replace("+", "."), __name__, _Sqlite.__name__)


def _prepare_sqlite(engine: AsyncEngine) -> None:
    """Make SQLite wait for locks, keep readers and the writer apart, and begin transactions when told to."""

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            f"busy_timeout={_LOCK_SECONDS * 1000}",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes later cannot wait for the lock: take it at once.
        reading = connection.get_execution_options().get("read_only")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
