"""`tradestack plan`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.errors import TradestackError
from infra.options import AsJson

if TYPE_CHECKING:
    from infra.plan.report import Report

Stack = Annotated[
    str, typer.Argument(help="Name of the stack: any NAME for which there is a Pulumi.NAME.yaml.")
]


def plan(
    stack: Stack,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|COMMIT",
            help="Compare with a plan stored with --json, with another stack file, or with a commit.",
        ),
    ] = None,
    as_json: AsJson = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A pull-request comment.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="One page that needs no network.")] = False,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the diagram to FILE.")] = None,
) -> None:
    """Show every resource of a stack, without engine, credentials or network."""
    if as_json + as_markdown + as_html > 1:
        raise TradestackError("--json, --markdown and --html: give one of them")
    from infra.plan.report import assemble
    from infra.plan.runner import run

    planned = run(stack)
    if svg is not None:
        from infra.plan.diagram import svg as draw

        _write(svg, draw(planned))
        if against is None and not (as_json or as_markdown or as_html):
            return
    old = None
    if against is not None:
        from infra.plan.against import resolve

        old = resolve(stack, against)
    report = assemble(planned, against or "", old)
    if as_json or as_markdown or as_html:
        typer.echo(_text(report, as_markdown=as_markdown, as_html=as_html), nl=False)
        return
    from rich.console import Console

    from infra.plan import terminal

    Console(highlight=False).print(terminal.text(report))


def _text(report: "Report", *, as_markdown: bool, as_html: bool) -> str:
    if as_markdown:
        from infra.plan import markdown

        return markdown.text(report)
    if as_html:
        from infra.plan.page import text

        return text(report)
    from infra.plan.report import document

    return json.dumps(document(report), indent=2) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise TradestackError(f"{path}: {error.strerror}") from error
