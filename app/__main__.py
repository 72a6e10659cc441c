"""`python -m app`: run roles, tasks and checks."""

import argparse
import sys
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

from app.kit.errors import ConfigurationError
from app.roles import ROLES


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the app image; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m app", description="The trading application, one role per process."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run roles; `all` is the whole platform in this process")
    run.add_argument(
        "roles", nargs="+", metavar="ROLE", choices=[*ROLES, "all"], help=", ".join([*ROLES, "all"])
    )
    run.add_argument("--port", type=int, help="public port of `all` (default APP_PORT, else 8080)")
    run.add_argument("--data", help="directory of the database of `all` (default: a temporary one)")

    commands.add_parser("roles", help="list the roles")
    check = commands.add_parser("healthcheck", help="exit code 0 when a role of this machine is ready")
    check.add_argument(
        "role", nargs="?", default="gateway", choices=[r.name for r in ROLES.values() if r.port]
    )
    migrate = commands.add_parser("migrate", help="bring the database schema to a revision")
    migrate.add_argument(
        "--to", default="head", metavar="REVISION", help="head (default), base, -1 or a revision"
    )
    events = commands.add_parser("events", help="print the AsyncAPI document of all events")
    events.add_argument("--markdown", action="store_true", help="the same as a reference for people")
    commands.add_parser("topics", help="create the broker's topics")
    wait = commands.add_parser("wait", help="end when every address takes connections")
    wait.add_argument("addresses", nargs="+", metavar="HOST:PORT")

    options = parser.parse_args(arguments)
    try:
        match options.command:
            case "run" if "all" in options.roles:
                from app.all import run_all

                return _start(run_all(options.port, options.data))
            case "run":
                from app.process import run_roles

                return _start(run_roles(options.roles))
            case "migrate":
                from app.process import migrate_to

                return _start(migrate_to(options.to))
            case "topics":
                from app.process import run_roles

                return _start(run_roles(["topics"]))
            case "events":
                return _print_events(options.markdown)
            case "wait":
                import asyncio

                from app.kit.wait import until_open

                asyncio.run(until_open(options.addresses))
                return 0
            case "healthcheck":
                from app.process import healthcheck

                return healthcheck(options.role)
            case _:
                return _list_roles()
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2


def _list_roles() -> int:
    from app.exchange import COMPILED

    for role in ROLES.values():
        where = f"{role.kind}, {role.schedule} UTC" if role.schedule else str(role.kind)
        where = where if role.ends else f"{role.kind}, port {role.port}"
        print(f"{role.name:<16} {where:<23} {role.summary}")
    told = "The exchange is compiled." if COMPILED else "The exchange is not compiled: plain Python, slower."
    print(told, file=sys.stderr)
    return 0


def _print_events(markdown: bool) -> int:
    import json

    from app.events import asyncapi, reference

    asyncapi.import_all()
    made = asyncapi.document()
    text = reference.markdown(made) if markdown else json.dumps(made, indent=2, ensure_ascii=False) + "\n"
    sys.stdout.write(text)
    return 0


def _unless_loop_is_gone(failure: threading.ExceptHookArgs) -> None:
    """A thread of SQLite that is done after the loop has ended has nobody to tell, which is no failure."""
    if failure.exc_type is not RuntimeError or str(failure.exc_value) != "Event loop is closed":
        threading.__excepthook__(failure)


def _start(work: Coroutine[Any, Any, None]) -> int:
    """Run the process's main coroutine on uvloop."""
    import uvloop

    threading.excepthook = _unless_loop_is_gone
    uvloop.run(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
