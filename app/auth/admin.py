"""`python -m app.auth.admin EMAIL`: make the account of an operator, who administers the platform."""

import argparse
import asyncio
import getpass
import sys
from collections.abc import Sequence
from dataclasses import replace

from pydantic import SecretStr

from app.auth.accounts import Accounts
from app.auth.context import AuthContext
from app.auth.schemas import UserView
from app.kit import logs
from app.kit.errors import ConfigurationError, Unavailable
from app.kit.problems import Problem
from app.kit.runtime import Backends, Runtime
from app.kit.schema import require_head
from app.kit.settings import Settings
from app.roles import ROLES


async def create_operator(context: AuthContext, email: str, password: SecretStr) -> UserView:
    """Make the account. The scope `admin` comes with its first login under a second factor.

    Raises:
        Problem: 409 `email-taken`, 422 `invalid-email` or `weak-password`.
        Unavailable: the database is away or its schema too old.
    """
    await require_head(context.database)
    return await Accounts(context).create(email, password, operator=True)


async def _run(email: str, password: SecretStr) -> UserView:
    settings = Settings.load()
    logs.configure(settings)
    backends = Backends(settings)
    # The command takes no requests: of a role, only what connects it is used.
    runtime = Runtime(replace(ROLES["migrate"], name="auth"), settings, backends)
    context = AuthContext.of(runtime)
    try:
        return await create_operator(context, email, password)
    finally:
        await context.close()
        await backends.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; the password is asked for, or read from a pipe. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.auth.admin", description=main.__doc__)
    parser.add_argument("email")
    options = parser.parse_args(arguments)
    typed = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    try:
        made = asyncio.run(_run(options.email, SecretStr(typed)))
    except (ConfigurationError, Problem, Unavailable) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{made.email} is an operator: {made.user_id}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
