"""Encrypted connections to a real PostgreSQL, and passwords that change under a running process."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

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
