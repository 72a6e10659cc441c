"""`tradestack cost`."""

import json
from typing import Annotated

import typer

from infra.cost.model import View
from infra.errors import TradestackError
from infra.options import AsJson
from infra.plan.commands import Stack


def cost(
    stack: Stack,
    view: Annotated[View, typer.Option(help="How the resources are bought or run.")] = View.ON_DEMAND,
    lines: Annotated[bool, typer.Option("--lines", help="Show every line item.")] = False,
    usage: Annotated[
        list[str] | None, typer.Option(help="Override an assumption: NAME=NUMBER; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the monthly cost of a stack by component, without account or network."""
    from infra.cost import show
    from infra.cost.estimate import estimate
    from infra.plan import stack_settings
    from infra.plan.runner import run

    given = dict(_pair(item) for item in usage or [])
    planned = run(stack)
    found = estimate(planned, view=view, usage={**stack_settings.usage(planned), **given})
    if as_json:
        typer.echo(json.dumps(show.document(found, lines=lines), indent=2))
        return
    from rich.console import Console

    Console(highlight=False).print(show.text(found, lines=lines))


def _pair(item: str) -> tuple[str, str]:
    name, separator, value = item.partition("=")
    if not separator:
        raise TradestackError(f"--usage {item!r}: write NAME=NUMBER")
    return name, value
