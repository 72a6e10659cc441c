"""Encrypted connections, passwords that change under a running process, transactions that are cancelled."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg
import pytest
from sqlalchemy import text

from app.kit.database import Database
from app.kit.errors import Unavailable
from app.kit.settings import Settings
from infra.servers.backing import Missing, Postgresql
from tests.app.certificates import write_certificates

USER = "rotated"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """Trusts its administrator; others need TLS and a password."""
    directory = Path(tempfile.mkdtemp(prefix="tradestack-test-"))
    directory.chmod(0o755)
    try:
        made = Postgresql(directory)
    except Missing as missing:
        pytest.skip(str(missing))
    data = directory / "data"
    files = write_certificates(data)
    owner = data.stat()
    for file in (files.authority, files.certificate, files.key):
        file.chmod(0o600)
        shutil.chown(file, owner.st_uid, owner.st_gid)
    settings = f"ssl = on\nssl_cert_file = '{files.certificate}'\nssl_key_file = '{files.key}'\n"
    with (data / "postgresql.conf").open("a") as conf:
        conf.write(settings)
    hosts = "host all trading 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
    (data / "pg_hba.conf").write_text(hosts)
    made.process.kill()
    (data / "postmaster.pid").unlink(missing_ok=True)
    made.start()
    yield made
    made.process.kill()
    shutil.rmtree(directory, ignore_errors=True)


async def set_password(server: Postgresql, password: str) -> None:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=server.port, user="trading", database="postgres"
    )
    exists = await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", USER)
    await connection.execute(f"{'ALTER' if exists else 'CREATE'} ROLE {USER} LOGIN PASSWORD '{password}'")
    await connection.close()


def url(server: Postgresql, query: str = "?ssl=require") -> str:
    return f"postgresql+asyncpg://{USER}@127.0.0.1:{server.port}/postgres{query}"


async def test_ssl_in_the_address_encrypts_the_connection(server: Postgresql) -> None:
    await set_password(server, "first")
    database = Database(url(server), "first")
    async with database.transaction(read_only=True) as session:
        encrypted = await session.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    await database.close()
    assert encrypted is True
    plain = Database(url(server, "?ssl=disable"), "first")
    with pytest.raises(Unavailable, match="no encryption"):
        await plain.ping()
    await plain.close()


async def test_a_rotated_password_needs_no_restart(
    server: Postgresql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "app_database_password"
    file.write_text("before\n")
    monkeypatch.setenv("APP_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("APP_DATABASE_URL", url(server))
    settings = Settings.load()
    await set_password(server, "before")
    database = Database(str(settings.database_url), settings.password("database_password"), pool_size=1)
    async with database.transaction(read_only=True) as open_session:
        await set_password(server, "after")
        assert await open_session.scalar(text("SELECT 1")) == 1  # what is open stays open
        with pytest.raises(Unavailable, match="password authentication failed"):
            await database.ping()  # a second connection, before the new password has come
        file.write_text("after\n")
        await database.ping()
    await database.close()


class Interruption:
    """Cancels the task that asks a SQLite thread for its n-th piece of work, then for each one after that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.times = 0
        execute = aiosqlite.Connection._execute

        async def interrupted(connection: aiosqlite.Connection, *work: Any, **named: Any) -> Any:
            self.left -= 1
            task = asyncio.current_task()
            if self.left <= 0 < self.times and task is not None:
                self.times -= 1
                task.cancel()
            return await execute(connection, *work, **named)  # type: ignore[no-untyped-call]

        monkeypatch.setattr(aiosqlite.Connection, "_execute", interrupted)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("connected", [True, False])
async def test_a_transaction_cancelled_anywhere_ends_and_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connected: bool, times: int
) -> None:
    interruption = Interruption(monkeypatch)
    file = tmp_path / "app.db"
    database = Database(f"sqlite+aiosqlite:///{file}")
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE numbers (number INTEGER)"))
        await session.execute(text("INSERT INTO numbers VALUES (1), (2), (3)"))

    async def work() -> None:
        async with database.transaction() as session:
            await session.execute(text("SELECT * FROM numbers"))
            await session.execute(text("INSERT INTO numbers VALUES (4)"))

    step, ended = 0, []
    while not interruption.times:
        step += 1
        if not connected:
            await database.close()
        interruption.left, interruption.times = step, times
        task = asyncio.create_task(work())
        assert await asyncio.wait((task,), timeout=30) == ({task}, set()), f"hangs at step {step}"
        ended.append(task)  # with the frames of its error, and the cursors in them
        if interruption.times == times:
            break  # it needed fewer steps
        interruption.times = 0
        with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
        assert asyncio.all_tasks() == {asyncio.current_task()}, f"something goes on after step {step}"
    interruption.times = 0
    assert step > 8
    assert sum(task.cancelled() for task in ended) >= step - 2
    await asyncio.wait_for(database.close(), 30)


async def test_who_waits_for_the_writer_of_sqlite_ends_at_once(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db")

    async def write() -> None:
        async with database.transaction() as session:
            await session.execute(text("SELECT 1"))

    async with database.transaction():
        waiting = [asyncio.create_task(write()) for _ in range(30)]
        await asyncio.wait(waiting, timeout=0.1)
        for task in waiting:
            task.cancel()
        ended, _ = await asyncio.wait(waiting, timeout=30)
        assert len(ended) == len(waiting)
    await write()
    await asyncio.wait_for(database.close(), 30)


async def test_a_statement_of_postgresql_is_cancelled(postgresql_database: Database) -> None:
    begun = asyncio.Event()

    async def sleep() -> None:
        async with postgresql_database.transaction() as session:
            begun.set()
            await session.execute(text("SELECT pg_sleep(300)"))

    sleeping = [asyncio.create_task(sleep()) for _ in range(3)]
    await begun.wait()
    await asyncio.wait(sleeping, timeout=0.2)
    for task in sleeping:
        task.cancel()
    # By itself it would end after 30 s, the time-out of a command.
    ended, _ = await asyncio.wait(sleeping, timeout=20)
    assert len(ended) == len(sleeping)
    await asyncio.wait_for(postgresql_database.close(), 30)
