"""A report as a pull-request comment: what is risky first, long lists folded, never too long to be posted."""

from collections.abc import Sequence

from infra.cost import cents
from infra.plan.diff import Action, Change
from infra.plan.report import LIMITS, Report, cost_rows, counts, monthly
from infra.plan.show import short_type
from infra.plan.values import Difference, Kind, shown
from infra.policy import Finding

LIMIT = 65_536
"""Characters that GitHub takes in one comment."""

_BUDGETS = {"dangerous": 18_000, "changes": 22_000, "cost": 6_000, "findings": 14_000}
"""Characters of each list; together with what stands around them they stay below the limit."""
_PROPERTIES = 12
"""Changed properties told of one resource."""
_SENTENCE = 600
"""Characters of the sentence about the cost."""
_UNFOLDED = 10
"""Lines of a list that is not folded."""


def text(report: Report) -> str:
    """The comment, of at most `LIMIT` characters; each list that was cut says how much is left out."""
    title = f"## Plan of {_code(report.plan.stack)}"
    if report.diff is not None:
        title += f" against {_code(report.against)}"
    parts = [title, _summary(report)]
    if report.diff is not None:
        changes = report.diff.changes
        dangerous = [change for change in changes if change.dangerous or change.refused]
        others = [change for change in changes if not (change.dangerous or change.refused)]
        parts += _section("Dangerous changes", [_change(item) for item in dangerous], "dangerous", fold=False)
        parts += _section(f"Changes: {counts(report)}", [_change(item) for item in others], "changes")
    parts += _section("Cost by component", _costs(report), "cost", header=_COST_HEADER)
    parts += _section(_findings_title(report), _findings(report), "findings")
    if report.diff is not None:
        parts += ["\n".join(f"<sub>{limit}</sub><br>" for limit in LIMITS)]
    return "\n\n".join(parts) + "\n"


def _summary(report: Report) -> str:
    custom = sum(resource.custom for resource in report.plan.resources)
    facts = [counts(report) or f"{custom} resources"]
    facts.append(_plain(monthly(report))[:_SENTENCE])
    facts.append(f"{len(report.open)} open findings")
    if report.diff is not None:
        dangerous = sum(change.dangerous for change in report.diff.changes)
        refused = sum(bool(change.refused) for change in report.diff.changes)
        facts += [f"{dangerous} dangerous"] if dangerous else []
        facts += [f"{refused} refused"] if refused else []
    return "**" + " · ".join(facts) + "**"


def _section(
    title: str, items: Sequence[str], budget: str, *, fold: bool = True, header: str = ""
) -> list[str]:
    if not items:
        return []
    kept, size = [], len(header)
    for item in items:
        size += len(item) + 1
        if size > _BUDGETS[budget]:
            break
        kept.append(item)
    body = "\n".join([header, *kept] if header else kept)
    if len(kept) < len(items):
        body += f"\n\n… and {len(items) - len(kept)} more, left out of this comment."
    if not fold or len(items) <= _UNFOLDED:
        return [f"### {title}\n\n{body}"]
    return [f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"]


def _change(change: Change) -> str:
    resource = change.resource
    word = change.action.value if change.action is not Action.REPLACE else "**replace**"
    line = f"- {word} {_code(short_type(resource.type))} {_code(resource.name)}"
    marks = [f"**{_plain(mark)}**" for mark in (change.risk, change.refused) if mark]
    marks += ["deleted first"] if change.delete_first else []
    marks += [_plain(note) for note in change.notes]
    lines = [" — ".join([line, *marks])]
    for item in change.properties[:_PROPERTIES]:
        forces = " **forces replacement**" if item.forces else ""
        because = f" ({_plain(item.because)})" if item.because else ""
        lines.append(f"  - {_code(item.difference.text)}: {_values(item.difference)}{forces}{because}")
    if len(change.properties) > _PROPERTIES:
        lines.append(f"  - … and {len(change.properties) - _PROPERTIES} more properties")
    return "\n".join(lines)


def _values(difference: Difference) -> str:
    if difference.hidden:
        return difference.hidden
    old = "" if difference.kind is Kind.ADDED else f"{_code(shown(difference.old, 80))} → "
    return old + ("removed" if difference.kind is Kind.REMOVED else _code(shown(difference.new, 80)))


_COST_HEADER = "| component | USD a month | change |\n|---|---:|---:|"


def _costs(report: Report) -> list[str]:
    return [
        f"| {_code(row.component)} | {cents(row.usd):,} | "
        f"{'' if row.delta_usd is None else f'{cents(row.delta_usd):+,}'} |"
        for row in cost_rows(report)
    ]


def _findings_title(report: Report) -> str:
    accepted = len(report.findings) - len(report.open)
    title = f"Findings: {len(report.open)} open, {accepted} accepted"
    return title if report.diff is None else f"{title}, {len(report.new)} new, {len(report.fixed)} fixed"


def _findings(report: Report) -> list[str]:
    new = {id(finding) for finding in report.new}
    first = [_finding(item, "new") for item in report.open if id(item) in new]
    rest = [_finding(item, "") for item in report.open if id(item) not in new]
    return [*first, *(_finding(item, "fixed") for item in report.fixed), *rest]


def _finding(finding: Finding, mark: str) -> str:
    name = finding.resource.rpartition("::")[2]
    strong = f"**{mark}** " if mark else ""
    return f"- {strong}{finding.severity} {finding.id} {_code(name)}: {_plain(finding.message)}"


def _code(text: str) -> str:
    """Text from a plan, so that nothing in it is Markdown, HTML or the name of a person to be told."""
    cut = text if len(text) <= 200 else text[:199] + "…"
    return f"<code>{_plain(cut)}</code>"


def _plain(text: str) -> str:
    return " ".join(text.split()).translate(_ENTITIES)


_ENTITIES = {ord(character): f"&#{ord(character)};" for character in "&<>\"'|`*_~[]@#\\"}
