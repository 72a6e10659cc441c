"""`tradestack plan`."""

import json
from typing import Annotated

import typer

from infra.options import AsJson

Stack = Annotated[
    str, typer.Argument(help="Name of the stack: any NAME for which there is a Pulumi.NAME.yaml.")
]


def plan(stack: Stack, as_json: AsJson = False) -> None:
    """Show every resource of a stack, without engine, credentials or network."""
    from infra.plan import show
    from infra.plan.runner import run

    planned = run(stack)
    if as_json:
        typer.echo(json.dumps(show.document(planned), indent=2))
        return
    from rich.console import Console

    Console(highlight=False).print(show.text(planned))
