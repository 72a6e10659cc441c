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
