"""`tradestack check`."""

import json
from typing import TYPE_CHECKING

import typer

from infra.options import AsJson
from infra.plan.commands import Stack
from infra.progress import Steps

if TYPE_CHECKING:
    from infra.check.report import Report

_SHOWN = 4
"""Resources named for one kind of finding; `--json` has them all."""


def check(stack: Stack, as_json: AsJson = False) -> None:
    """Check a stack: security assertions, checkov, kube-score, kubeconform; exit code 1 on a failure."""
    from infra.check.report import check as run_checks

    report = run_checks(stack, Steps())
    if as_json:
        typer.echo(json.dumps(report.document()))
    else:
        _print(report)
    raise typer.Exit(1 if report.failures else 0)


def _print(report: "Report") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    if report.findings:
        table = Table("", "checker", "check", "what", "where", box=None)
        groups: dict[tuple[str, ...], list[str]] = {}
        for finding in sorted(report.findings, key=lambda item: (bool(item.reason), item.checker, item.id)):
            key = (finding.reason, finding.checker, finding.id, finding.message)
            groups.setdefault(key, []).append(_short(finding.resource))
        for (reason, checker, id_, message), resources in groups.items():
            mark = "[dim]skip[/]" if reason else "[red]fail[/]"
            what = f"{message}: {reason}" if reason else message
            table.add_row(mark, checker, id_, escape(what), escape(_several(resources)))
        console.print(table)
    console.print(
        f"{report.passed} passed, {len(report.failures)} failed, {len(report.accepted)} skipped",
        soft_wrap=True,
    )


def _several(resources: list[str]) -> str:
    more = len(resources) - _SHOWN
    return ", ".join(resources[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _short(resource: str) -> str:
    """Kind and name of a URN."""
    parts = resource.split("::")
    if len(parts) < 4:
        return resource
    return f"{parts[2].rsplit(':', 1)[-1]} {parts[3]}"
