"""`tradestack cluster …` and `tradestack doctor`.

What is slow to import is imported by the command that needs it.
"""

import json
import os
from dataclasses import asdict
from typing import Annotated

import typer

from infra.cluster.instance import Instance
from infra.errors import TradestackError
from infra.kubeconfig import EMBEDDED
from infra.options import AsJson
from infra.progress import Steps

app = typer.Typer(no_args_is_help=True, help="The embedded single-node Kubernetes.")

Name = Annotated[str, typer.Option(help="Instance; each has its own network, state and addresses.")]


@app.command()
def up(name: Name = EMBEDDED) -> None:
    """Start the cluster, or do nothing if it is up."""
    from infra.cluster.cluster import Cluster

    cluster = Cluster(name)
    cluster.up(Steps())
    typer.echo(f"export KUBECONFIG={cluster.kubeconfig_path}")


@app.command()
def down(
    name: Name = EMBEDDED,
    purge: Annotated[bool, typer.Option("--purge", help="Also delete its state, volumes included.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Stop the cluster; its state is kept unless --purge is given."""
    from infra.cluster.cluster import Cluster

    cluster = Cluster(name)
    instance = cluster.instance
    if purge and not yes and instance.holds_data:
        typer.confirm(f"Delete cluster {name!r} with the volumes in {instance.volumes}?", abort=True)
    with Steps().step(f"Stop cluster {name}", estimate_s=15):
        cluster.down(purge=purge)


@app.command()
def status(name: Name = EMBEDDED, as_json: AsJson = False) -> None:
    """Show what runs; exit code 0 only when the cluster is ready."""
    from rich.console import Console
    from rich.table import Table

    from infra.cluster.cluster import Cluster

    found = Cluster(name).status()
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        summary = "ready" if found.ready else "not ready" if found.running else "stopped"
        typer.echo(f"{name}: {summary}" + (f", node {found.node_ip}" if found.node_ip else ""))
        table = Table("component", "process", "state", "restarts", box=None)
        for each in found.components:
            table.add_row(
                each.name, str(each.pid or "-"), "works" if each.ready else "waits", str(each.restarts)
            )
        if found.components:
            Console().print(table)
    raise typer.Exit(0 if found.ready else 1)


@app.command()
def kubeconfig(name: Name = EMBEDDED) -> None:
    """Print the path of the administrator's kubeconfig."""
    path = Instance.named(name).kubeconfig
    if not path.exists():
        raise TradestackError(f"cluster {name!r} is not up", hint=f"tradestack cluster up --name {name}")
    typer.echo(path)


@app.command()
def ca(
    name: Annotated[str | None, typer.Option(help="Instance; the one of `up` if left out.")] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig instead.")] = None,
    pem: Annotated[bool, typer.Option("--pem", help="Print the certificate instead of its path.")] = False,
) -> None:
    """Print the path of the authority that signs the edge's certificate, for clients to trust."""
    from infra.cluster.addons.platform import certificate
    from infra.target import choose

    target = choose(context=context, cluster=name)
    path = certificate.authority_path(target.state)
    if not path.exists():
        raise TradestackError(f"{target.description} has no edge yet", hint="tradestack up local")
    typer.echo(path.read_text() if pem else path, nl=not pem)


@app.command()
def logs(
    component: Annotated[str | None, typer.Argument(help="A component, all of them if left out.")] = None,
    name: Name = EMBEDDED,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines.")] = False,
    lines: Annotated[int, typer.Option(help="Lines of each log.", min=1)] = 50,
) -> None:
    """Show the logs of the node's components."""
    folder = Instance.named(name).logs
    known = sorted(file.stem for file in folder.glob("*.log"))
    if not known:
        raise TradestackError(f"cluster {name!r} has no logs", hint=f"tradestack cluster up --name {name}")
    if component is not None and component not in known:
        raise TradestackError(f"unknown component {component!r}; logs are there of {', '.join(known)}")
    files = [str(folder / f"{each}.log") for each in ([component] if component else known)]
    os.execvp("tail", ["tail", f"--lines={lines}", *(["--follow=name"] if follow else []), *files])  # noqa: S606


def doctor(name: Name = EMBEDDED, as_json: AsJson = False) -> None:
    """Tell what this machine lacks, why it matters and what fixes it; exit code 1 if anything fails."""
    from rich.console import Console
    from rich.table import Table

    from infra.cluster import doctor as checks

    found = checks.doctor(Instance.named(name))
    passed = all(check.passed for check in found)
    if as_json:
        typer.echo(json.dumps({"passed": passed, "checks": checks.as_json(found)}))
    else:
        table = Table("", "check", "found", box=None)
        for check in found:
            table.add_row("[green]✓[/]" if check.passed else "[red]✗[/]", check.name, check.found)
        console = Console()
        console.print(table)
        for check in found:
            if not check.passed:
                console.print(f"\n[bold]{check.name}[/]: {check.why}\n  {check.fix}", highlight=False)
    raise typer.Exit(0 if passed else 1)
