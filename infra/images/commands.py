"""`tradestack images …`"""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from infra.images import build, catalog
from infra.images.engines import Backend
from infra.options import AsJson
from infra.progress import Steps

_APP = "app"

app = typer.Typer(help="Container images of the platform.", no_args_is_help=True)


@app.command("list")
def list_images(
    as_json: AsJson = False,
) -> None:
    """List every image, its reference and whether its archive is in the cache."""
    rows: list[dict[str, Any]] = []
    for name in catalog.PUBLISHED:
        archive = build.archive_path(name)
        size = archive.stat().st_size if archive.is_file() else None
        rows.append(
            {
                "name": name,
                "reference": catalog.reference(name),
                "archive": str(archive) if size is not None else None,
                "bytes": size,
            }
        )
    if as_json:
        typer.echo(json.dumps({"images": rows}))
        return
    table = Table("image", "reference", "archive", box=None)
    for row in rows:
        built = "not built" if row["bytes"] is None else f"{row['bytes'] / 1e6:.0f} MB"
        table.add_row(row["name"], row["reference"], built)
    Console().print(table)


@app.command("build")
def build_images(
    names: Annotated[
        list[str] | None, typer.Argument(help="Images to build; all when none is named.")
    ] = None,
    backend: Annotated[
        Backend | None, typer.Option(help="Docker where an engine answers, buildah elsewhere, unless said.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build the archives that are missing and print where they are."""
    archives = build.ensure(names or catalog.PUBLISHED, Steps(), backend)
    if as_json:
        typer.echo(json.dumps({name: str(path) for name, path in archives.items()}))
        return
    for path in archives.values():
        typer.echo(path)


@app.command("publish")
def publish_image(
    stack: Annotated[str, typer.Argument(help="A stack on AWS; the image goes to its repository.")],
    write: Annotated[
        bool, typer.Option("--write", help="Write the digest into the stack's file: the next `up` runs it.")
    ] = False,
    backend: Annotated[
        Backend | None, typer.Option(help="Docker where an engine answers, buildah elsewhere, unless said.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Push the app's image to a stack's registry, unless it is there, and print its digest."""
    from infra.images import pin, publish
    from infra.plan import stackfile

    file = stackfile.locate(stack)
    made = publish.publish(_APP, publish.stack_repository(stack), Steps(), backend)
    written = write and pin.pin(file, made.digest)
    if not as_json:
        typer.echo(made.digest)
        return
    found = {"stack": stack, "image": _APP, "reference": f"{made.repository}:{made.tag}", "uri": made.uri}
    typer.echo(json.dumps({**found, "digest": made.digest, "pushed": made.pushed, "written": written}))
