"""A report as one HTML page that asks nothing of any network."""

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from string import Template

from infra.plan import chart, diagram
from infra.plan.diff import Change, Diff
from infra.plan.model import Plan, PlannedResource, masked
from infra.plan.report import LIMITS, Report, cost_rows, counts, monthly
from infra.plan.show import short_type
from infra.plan.values import Difference, Kind, shown
from infra.policy import Finding

_PAGE, _SCRIPT = Path(__file__).with_name("page.html"), Path(__file__).with_name("page.js")


def text(report: Report) -> str:
    """The page. Its policy lets no script run but its own and lets nothing be loaded."""
    title = f"Plan of {report.plan.stack}"
    if report.against:
        title += f" against {report.against}"
    sections = dict(_sections(report))
    script = _SCRIPT.read_text()
    links = {**{name: name for name in sections}, "Resources": "resources"}
    return Template(_PAGE.read_text()).substitute(
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        title=escape(title),
        heading=escape(title),
        links="".join(f'<a href="#{id_.lower()}">{name}</a>' for name, id_ in links.items()),
        facts="".join(f"<li>{escape(fact)}</li>" for fact in _facts(report)),
        sections="\n".join(
            f'<section id="{name.lower()}"><h2>{name}</h2>\n{body}</section>'
            for name, body in sections.items()
        ),
        tree=_tree(report.plan),
        script=script,
    )


def _facts(report: Report) -> Iterator[str]:
    custom = sum(resource.custom for resource in report.plan.resources)
    yield f"{custom} resources in {len(report.plan.resources) - custom} components"
    if report.diff is not None:
        yield counts(report)
    yield monthly(report)
    yield f"{len(report.open)} open findings"


def _sections(report: Report) -> Iterator[tuple[str, str]]:
    if report.diff is not None:
        yield "Changes", "".join(_changes(report.diff))
    yield "Cost", f'<div class="scroll">{chart.svg(cost_rows(report))}</div>'
    yield "Findings", _findings(report)
    yield "Diagram", f'<div class="scroll">{diagram.svg(report.plan)}</div>'


def _changes(diff: Diff) -> Iterator[str]:
    if not diff.changes:
        yield "<p>Nothing changes.</p>"
    yield from (_change(change) for change in diff.changes)
    if diff.changes:
        yield from (f'<p class="soft">{escape(limit)}</p>' for limit in LIMITS)


def _change(change: Change) -> str:
    resource = change.resource
    marks = [f'<span class="danger">{escape(mark)}</span>' for mark in (change.risk, change.refused) if mark]
    marks += ["deleted first"] if change.delete_first else []
    marks += [escape(note) for note in change.notes]
    head = (
        f'<span class="action">{change.action}</span> {escape(short_type(resource.type))} '
        f"<code>{escape(resource.name)}</code>"
    )
    items = "".join(f"<li>{line}</li>" for line in _properties(change))
    body = f"<ul>{items}</ul>" if items else ""
    return f'<div class="change {change.action}">{" · ".join([head, *marks])}{body}</div>\n'


def _properties(change: Change) -> Iterator[str]:
    for item in change.properties:
        forces = ' <span class="danger">forces replacement</span>' if item.forces else ""
        because = f' <span class="soft">({escape(item.because)})</span>' if item.because else ""
        yield f"<code>{escape(item.difference.text)}</code>: {_values(item.difference)}{forces}{because}"


def _values(difference: Difference) -> str:
    if difference.hidden:
        return difference.hidden
    old = "" if difference.kind is Kind.ADDED else f"<code>{escape(shown(difference.old, 400))}</code> → "
    if difference.kind is Kind.REMOVED:
        return f"{old}removed"
    return f"{old}<code>{escape(shown(difference.new, 400))}</code>"


def _findings(report: Report) -> str:
    new = {id(finding) for finding in report.new}
    rows = [_finding(item, "new" if id(item) in new else "") for item in report.open]
    rows += [_finding(item, "fixed") for item in report.fixed]
    rows += [_finding(item, f"accepted: {item.reason}") for item in report.findings if item.reason]
    if not rows:
        return "<p>Every assertion holds.</p>"
    head = "<tr><th>severity</th><th>id</th><th>resource</th><th>what</th><th></th></tr>"
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _finding(finding: Finding, mark: str) -> str:
    cells = (finding.severity, finding.id, finding.resource.rpartition("::")[2], finding.message, mark)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>\n"


def _tree(plan: Plan) -> str:
    roots = [resource for resource in plan.resources if not resource.parent]
    return "".join(_branch(plan, resource) for resource in roots)


def _branch(plan: Plan, resource: PlannedResource) -> str:
    children = plan.children(resource.urn)
    title = f"{escape(short_type(resource.type))} <code>{escape(resource.name)}</code>"
    protected = ' <span class="soft">protected</span>' if resource.options.protect else ""
    body = ""
    if resource.inputs:
        inputs = json.dumps(masked(resource.inputs), indent=2, ensure_ascii=False)
        body = f"<pre>{escape(inputs)}</pre>"
    inside = "".join(_branch(plan, child) for child in children)
    head = f'data-text="{escape(f"{resource.type} {resource.name}".lower())}"'
    if not resource.parent:
        head += " open"
    return f"<details {head}><summary>{title}{protected}</summary>{body}{inside}</details>\n"
