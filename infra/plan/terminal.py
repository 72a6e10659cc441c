"""A report on the terminal: tree, counts, cost, findings, changes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from infra.cost import cents
from infra.plan import show
from infra.plan.diff import Action, Change, Diff
from infra.plan.report import LIMITS, Report, cost_rows, counts, monthly
from infra.plan.values import Difference, Kind, shown
from infra.policy import Finding

if TYPE_CHECKING:
    from rich.console import RenderableType

_SIGNS = {
    Action.CREATE: "[green]+ create[/]",
    Action.UPDATE: "[yellow]~ update[/]",
    Action.REPLACE: "[magenta]± replace[/]",
    Action.DELETE: "[red]- delete[/]",
}
_SEVERITY = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "dim"}


def text(report: Report) -> "RenderableType":
    """Everything, the changes last so that they stay on the screen."""
    parts: list[RenderableType] = [show.text(report.plan), "", *_cost(report), "", *_findings(report)]
    if report.diff is not None:
        parts += ["", *_changes(report, report.diff)]
    return Group(*parts)


def _cost(report: Report) -> "Iterator[RenderableType]":
    yield f"[bold]Cost:[/] {escape(monthly(report))}"
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 1))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    for row in cost_rows(report):
        delta = "" if row.delta_usd is None else f"{cents(row.delta_usd):+,}"
        table.add_row(escape(row.component), f"{cents(row.usd):,}", delta)
    if table.row_count:
        yield table


def _findings(report: Report) -> Iterator[str]:
    accepted = len(report.findings) - len(report.open)
    yield f"[bold]Findings: {len(report.open)} open[/], {accepted} accepted with a reason"
    new = {id(finding) for finding in report.new}
    for finding in report.open:
        yield f"  {_finding(finding)}{' [bold](new)[/]' if id(finding) in new else ''}"
    for finding in report.fixed:
        yield f"  [green]fixed[/] {_finding(finding)}"


def _finding(finding: Finding) -> str:
    name = escape(finding.resource.rpartition("::")[2])
    style = _SEVERITY[finding.severity]
    return f"[{style}]{finding.severity}[/] {finding.id} {name}: {escape(finding.message)}"


def _changes(report: Report, diff: Diff) -> Iterator[str]:
    yield f"[bold]Changes against {escape(report.against)}: {counts(report)}[/]"
    for change in diff.changes:
        yield from _change(change)
    for limit in LIMITS if diff.changes else ():
        yield f"[dim]{limit}[/]"


def _change(change: Change) -> Iterator[str]:
    resource = change.resource
    first = " [magenta](deleted first)[/]" if change.delete_first else ""
    yield f"  {_SIGNS[change.action]} {escape(show.short_type(resource.type))} {escape(resource.name)}{first}"
    for warning in (change.risk, change.refused):
        if warning:
            yield f"      [bold red]{escape(warning)}[/]"
    for note in change.notes:
        yield f"      [yellow]{escape(note)}[/]"
    for item in change.properties:
        forces = " [magenta]forces replacement[/]" if item.forces else ""
        because = f" [dim]({escape(item.because)})[/]" if item.because else ""
        yield f"      {escape(item.difference.text)}: {_values(item.difference)}{forces}{because}"


def _values(difference: Difference) -> str:
    if difference.hidden:
        return difference.hidden
    old = "" if difference.kind is Kind.ADDED else f"{escape(shown(difference.old))} → "
    return old + ("removed" if difference.kind is Kind.REMOVED else escape(shown(difference.new)))
