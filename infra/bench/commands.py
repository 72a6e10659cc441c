"""`tradestack bench …`"""

from typing import Annotated

import typer

from infra.options import AsJson
from infra.progress import Steps

app = typer.Typer(help="Measure, and keep the result in bench/results.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure, and keep the result in bench/results."""


@app.command()
def stack(as_json: AsJson = False) -> None:
    """Time the plan of the local stack, a warm `up` and an `up` without changes, on a cluster of its own."""
    from infra.bench.stack import measure

    report = measure(Steps())
    path = report.save()
    typer.echo(report.as_json() if as_json else path)


@app.command()
def matching(as_json: AsJson = False) -> None:
    """Time the matching core, journal included, against order books from PyPI on the same commands."""
    from infra.bench.matching import measure

    report = measure(Steps())
    path = report.save()
    typer.echo(report.as_json() if as_json else path)


@app.command()
def plan(as_json: AsJson = False) -> None:
    """Time the plan of the largest stack, and how plan, comparison and checks grow to 3,000 resources."""
    from infra.bench.plan import measure

    report = measure(Steps())
    path = report.save()
    typer.echo(report.as_json() if as_json else path)


@app.command()
def orders(as_json: AsJson = False) -> None:
    """Orders over HTTP to settled ledger: latency at 200 orders/s, then 1,000 orders/s for a minute."""
    from infra.bench.orders import measure

    report = measure(Steps())
    path = report.save()
    typer.echo(report.as_json() if as_json else path)


@app.command()
def recovery(as_json: AsJson = False) -> None:
    """Start the matching engine on a journal of a million commands without a snapshot."""
    from infra.bench.recovery import measure

    report = measure(Steps())
    path = report.save()
    typer.echo(report.as_json() if as_json else path)


@app.command()
def fanout(
    small: Annotated[
        bool, typer.Option("--small", help="A trial of a minute; its result is not kept.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Prices to clients: processor time, latency and memory beside other libraries; 10,000 clients."""
    from infra.bench.fanout import FULL, SMALL, measure

    report = measure(Steps(), SMALL if small else FULL)
    path = None if small else report.save()
    typer.echo(report.as_json() if as_json or path is None else path)


@app.command()
def scale(as_json: AsJson = False) -> None:
    """Load price-service until replicas come, take the load away until they go, on a cluster of its own."""
    from infra.bench.scale import measure

    report = measure(Steps())
    path = report.save()
    typer.echo(report.as_json() if as_json else path)
