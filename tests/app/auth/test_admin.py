"""The command that makes an operator, and the tables behind the role."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from app.auth.models import ApiKeyRow, RecoveryCodeRow, RefreshTokenRow, SessionRow, UserRow
from app.kit import schema
from app.kit.database import Base, Database
from tests.app.auth.conftest import EMAIL, PASSWORD

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
TABLES = {"auth_users", "auth_sessions", "auth_refresh_tokens", "auth_recovery_codes", "auth_api_keys"}

MODELS = (UserRow, SessionRow, RefreshTokenRow, RecoveryCodeRow, ApiKeyRow)


def command(directory: Path, *arguments: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
    env = {"APP_DATABASE_URL": f"sqlite+aiosqlite:///{directory}/app.db", "APP_SECRETS_DIR": str(directory)}
    return subprocess.run(
        [sys.executable, "-m", "app.auth.admin", *arguments],
        input=password + "\n",
        capture_output=True,
        text=True,
        check=False,
        env={**CLEAN, **env},
    )


async def test_the_first_operator_is_made_by_a_command(tmp_path: Path) -> None:
    before = command(tmp_path, EMAIL)
    assert before.returncode == 2
    assert "python -m app migrate" in before.stderr
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db")
    await schema.to(database)
    await database.close()
    for arguments, password, told in (
        ((EMAIL,), "password1234", "easy to guess"),
        (("nobody",), PASSWORD, "email: "),
    ):
        refused = command(tmp_path, *arguments, password=password)
        assert (refused.returncode, told in refused.stderr) == (2, True)
        assert password not in refused.stdout + refused.stderr
    made = command(tmp_path, EMAIL)
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[-1].startswith(f"{EMAIL} is an operator: ")
    assert PASSWORD not in made.stdout + made.stderr
    again = command(tmp_path, EMAIL)
    assert (again.returncode, again.stderr.strip()) == (2, "There is an account with this address.")


async def tables(database: Database) -> set[str]:
    async with database.engine.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def test_the_tables_go_up_down_and_up(empty_database: Database) -> None:
    await schema.to(empty_database, "0003_auth")
    assert await tables(empty_database) >= TABLES
    await schema.to(empty_database, "-1")
    assert not await tables(empty_database) & TABLES
    await schema.to(empty_database, "0003_auth")
    assert await tables(empty_database) >= TABLES
    await schema.to(empty_database, "base")
    assert not await tables(empty_database) & TABLES


async def test_models_and_tables_agree(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        def include(thing: Any, name: str | None, kind: str, *_: object) -> bool:
            table = name if kind == "table" else thing.table.name
            return str(table) in TABLES

        context = MigrationContext.configure(connection, opts={"include_object": include})
        return list(compare_metadata(context, Base.metadata))

    assert {model.__tablename__ for model in MODELS} == TABLES
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
