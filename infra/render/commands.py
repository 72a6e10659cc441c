"""`tradestack render`."""

from pathlib import Path
from typing import Annotated

import typer

from infra.plan.commands import Stack

Output = Annotated[Path, typer.Option("--output", "-o", help="Directory for the files; made where missing.")]


def render(stack: Stack, output: Output) -> None:
    """Write the Kubernetes part of a stack as one file for each object, without secret values."""
    from infra.plan.runner import run
    from infra.render.files import write

    files = write(run(stack), output)
    typer.echo(f"{len(files)} files in {output}", err=True)
