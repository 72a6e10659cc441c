"""`tradestack …`: parses the command line, calls what does the work, prints the result.

What is slow to import is imported by the command that needs it.
"""

import gc
import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from infra.bench.commands import app as bench_app
from infra.check.commands import check
from infra.cluster.commands import app as cluster_app
from infra.cluster.commands import doctor
from infra.cost.commands import cost
from infra.errors import TradestackError
from infra.images.commands import app as images_app
from infra.loadtest.commands import app as loadtest_app
from infra.options import AsJson
from infra.plan.commands import Stack, plan
from infra.progress import Steps
from infra.render.commands import render

if TYPE_CHECKING:
    from infra.target import Target

app = typer.Typer(
    help="Stands a complete trading platform up, on AWS or on one machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(plan)
app.command()(check)
app.command()(cost)
app.command()(render)
app.command()(doctor)
app.add_typer(cluster_app, name="cluster")
app.add_typer(images_app, name="images")
app.add_typer(bench_app, name="bench")
app.add_typer(loadtest_app, name="loadtest")

ClusterName = Annotated[str | None, typer.Option("--cluster", help="The cluster made for a local stack.")]
Context = Annotated[
    str | None, typer.Option(help="A context of your kubeconfig, instead of a cluster made here.")
]


@app.command()
def up(
    stack: Stack,
    cluster: ClusterName = None,
    context: Context = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for readiness.", min=1)] = 600,
    as_json: AsJson = False,
) -> None:
    """Bring a stack up and wait until it is ready; run again, it changes nothing."""
    from infra import lifecycle

    steps = Steps()
    if lifecycle.is_local(stack):
        result = lifecycle.up_local(stack, _target(context, cluster), steps, timeout_s=timeout)
    else:
        result = lifecycle.up_cloud(stack, steps)
    counts = ", ".join(f"{count} {what}" for what, count in sorted(result.changes.items()))
    steps.summary(counts if result.changed else f"no changes ({counts})")
    if as_json:
        typer.echo(
            json.dumps({"stack": stack, "changes": result.changes, "url": result.url, "steps": steps.timings})
        )
    elif result.url:
        typer.echo(result.url)


@app.command()
def prepare(stack: Stack, cluster: ClusterName = None, context: Context = None) -> None:
    """Start the cluster of a local stack and load its images; `pulumi up` by hand needs both."""
    from infra import lifecycle

    if not lifecycle.is_local(stack):
        lifecycle.refuse_cloud(stack, "preview")
    target = _target(context, cluster)
    lifecycle.prepare(stack, target, Steps())
    typer.echo(f"export KUBECONFIG={target.kubeconfig}")


@app.command()
def down(
    stack: Stack,
    cluster: ClusterName = None,
    context: Context = None,
    volumes: Annotated[bool, typer.Option("--volumes", help="Also delete the data in volumes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove what `up` made, and only that; data in volumes is kept unless --volumes is given."""
    from infra import lifecycle

    if not lifecycle.is_local(stack):
        lifecycle.refuse_cloud(stack, "destroy")
    target = _target(context, cluster)
    if volumes and not yes and lifecycle.holds_data(stack, target):
        typer.confirm(
            f"Delete stack '{stack}' on {target.description} with the data in its volumes?", abort=True
        )
    lifecycle.down_local(stack, target, Steps(), volumes=volumes)


@app.command()
def status(
    stack: Annotated[str, typer.Argument(help="Name of the stack.")] = "local",
    cluster: ClusterName = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Show every workload of a stack; exit code 0 only when all are ready."""
    from infra import lifecycle

    if not lifecycle.is_local(stack):
        lifecycle.refuse_cloud(stack, "stack")
    found = lifecycle.status(stack, _target(context, cluster))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _print_status(found)
    raise typer.Exit(0 if found["ready"] else 1)


def _print_status(found: dict[str, object]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("workload", "namespace", "kind", "ready", box=None)
    workloads = found["workloads"]
    for item in workloads if isinstance(workloads, list) else []:
        table.add_row(item["name"], item["namespace"], item["kind"], f"{item['ready']}/{item['desired']}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{found['stack']}: {'ready' if found['ready'] else 'not ready'}")


def _target(context: str | None, cluster: str | None) -> "Target":
    from infra.target import choose

    return choose(context=context, cluster=cluster)


def main() -> None:
    """Entry point of the `tradestack` command."""
    try:
        app()
    except TradestackError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        if error.hint:
            typer.echo(f"  {error.hint}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of a pipe has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    finally:
        # At its end the interpreter would look for cycles among all that a plan made: a second for nothing.
        gc.freeze()


if __name__ == "__main__":
    main()
