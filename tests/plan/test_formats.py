"""A report in each of its forms: complete, masked, escaped, never too long."""

import io
import json
import re
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from infra.plan import Plan, Secret, markdown, page, stored, terminal
from infra.plan.chart import svg as bars
from infra.plan.diff import Action, compare
from infra.plan.report import CostRow, Report, assemble, document
from tests.plan.synthetic import plan, resource

EVIL = "x</script><script>alert(1)</script>`|@someone **b** <img src=x onerror=alert(1)> [a](b)"
DATABASE = "aws:rds/instance:Instance"
QUEUE = "aws:sqs/queue:Queue"


def _report(old: Plan | None, new: Plan) -> Report:
    return assemble(new, "before", old)


@pytest.fixture(scope="module")
def report() -> Report:
    """A database that is replaced, a queue of many that goes, one that comes, one that is changed."""
    engine = {"identifier": "db", "engineVersion": "17", "instanceClass": "db.m7g.large"}
    old = plan(
        resource(DATABASE, "db", {**engine, "engine": "postgres", "password": Secret("hunter2")}),
        resource(QUEUE, "gone"),
        resource(QUEUE, "kept", {"delaySeconds": 0}),
    )
    new = plan(
        resource(DATABASE, "db", {**engine, "engine": "aurora", "password": Secret("hunter2")}),
        resource(QUEUE, "kept", {"delaySeconds": 5}),
        resource(QUEUE, "new"),
        resource(QUEUE, "newer"),
    )
    return _report(old, new)


def _terminal(report: Report) -> str:
    output = io.StringIO()
    Console(file=output, width=200).print(terminal.text(report))
    return output.getvalue()


FORMS: dict[str, Any] = {
    "terminal": _terminal,
    "json": lambda report: json.dumps(document(report)),
    "markdown": markdown.text,
    "html": page.text,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_tells_every_change_and_no_secret(form: str, report: Report) -> None:
    text = FORMS[form](report)
    for word in ("gone", "newer", "delaySeconds", "aurora", "loses the database", "before"):
        assert word in text, word
    assert "hunter2" not in text


@pytest.mark.parametrize("form", ["terminal", "markdown", "html"])
def test_the_dangerous_change_comes_first(form: str, report: Report) -> None:
    text = FORMS[form](report)
    text = text[text.index("hanges") :]
    assert text.index("loses the database") < text.index("delaySeconds") < text.index("newer")


def test_json_counts_and_names_the_changes(report: Report) -> None:
    changes = document(report)["changes"]
    counts = {name: changes[name] for name in ("create", "update", "replace", "delete", "same")}
    assert counts == {"create": 2, "update": 1, "replace": 1, "delete": 1, "same": 1}
    assert changes["against"] == "before"
    first = changes["items"][0]
    assert (first["action"], first["name"], first["deleteFirst"]) == ("replace", "db", True)
    assert first["properties"] == [
        {
            "path": "engine",
            "kind": "changed",
            "old": "postgres",
            "new": "aurora",
            "forces": True,
            "because": "",
        }
    ]


def test_json_without_a_comparison_has_no_changes(local_plan: Plan) -> None:
    found = document(assemble(local_plan))
    assert found["changes"] is None
    assert set(found) == {"stack", "resources", "outputs", "changes", "cost", "findings"}
    assert found["cost"]["monthly_usd"] == sum(found["cost"]["components"].values())


def test_cost_and_findings_are_compared() -> None:
    def one(encrypted: bool, size: str) -> Plan:
        inputs = {"engine": "postgres", "instanceClass": size, "allocatedStorage": 20}
        return plan(resource(DATABASE, "db", {**inputs, "storageEncrypted": encrypted}))

    report = _report(one(True, "db.m7g.large"), one(False, "db.m7g.xlarge"))
    changes = document(report)["changes"]
    assert changes["cost"]["delta_usd"] > 0
    assert changes["cost"]["components"][0]["component"]
    assert any(item["new"] and item["id"] == "TS016" for item in document(report)["findings"])
    back = document(_report(one(False, "db.m7g.xlarge"), one(True, "db.m7g.large")))["changes"]
    assert back["cost"]["delta_usd"] < 0
    assert any(item["id"] == "TS016" for item in back["findings"]["fixed"])


def test_a_price_that_is_missing_hides_no_change() -> None:
    inputs = {"identifier": "db", "engine": "postgres", "instanceClass": "db.moon.large"}
    report = _report(plan(), plan(resource(DATABASE, "db", inputs)))
    found = document(report)
    assert (found["cost"], found["changes"]["cost"], found["changes"]["create"]) == (None, None, 1)
    for form in ("terminal", "markdown", "html"):
        assert "db.moon.large" in FORMS[form](report)
        assert "cost unknown" in FORMS[form](report)


def test_a_plan_read_back_has_no_change(local_plan: Plan) -> None:
    read = stored.parse(json.dumps(document(assemble(local_plan))), "file")
    diff = compare(read, local_plan)
    assert (diff.changes, diff.same) == ((), len(local_plan.resources))


def test_every_resource_is_compared_with_itself_as_read_back(local_plan: Plan) -> None:
    read = stored.parse(json.dumps(document(assemble(local_plan))), "file")
    for resource_ in local_plan.resources:
        other = read.by_urn[resource_.urn]
        assert other.options == resource_.options
        assert other.property_dependencies == resource_.property_dependencies
        assert other.secrets == resource_.secrets


def _huge(number: int) -> Report:
    text, topic = "a long value with < and & in it " * 20, "aws:msk/topic:Topic"
    old = plan(*(resource(topic, f"t-{n}", {"replicationFactor": 3, "note": text}) for n in range(number)))
    new = plan(
        *(resource(topic, f"t-{n}", {"replicationFactor": 2, "note": text * 2}) for n in range(number)),
        *(resource("aws:ec2/route:Route", f"r-{n}") for n in range(number)),
    )
    return _report(old, new)


def test_markdown_fits_a_comment_whatever_the_size() -> None:
    text = markdown.text(_huge(2000))
    assert len(text) <= markdown.LIMIT
    left_out = [int(number) for number in re.findall(r"… and (\d+) more, left out", text)]
    told = len(re.findall(r"^- (?:\*\*replace\*\*|create) ", text, re.M))
    assert sum(left_out[:2]) + told == 4000
    assert text.count("<details>") == text.count("</details>")


def test_a_single_enormous_change_still_fits() -> None:
    inputs = {f"key{n}": "v" * 5000 for n in range(500)}
    text = markdown.text(_report(plan(resource(QUEUE, "q", {})), plan(resource(QUEUE, "q", inputs))))
    assert len(text) < 10_000
    assert "… and 488 more properties" in text


def test_markdown_takes_nothing_from_a_plan_as_markup() -> None:
    text = markdown.text(_report(plan(resource(QUEUE, EVIL)), plan(resource(QUEUE, "q", {EVIL: EVIL}))))
    for bad in ("<script", "<img", "`", "@someone", "**b**", "[a](b)"):
        assert bad not in text, bad


class _Scripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [str(value) for name, value in attrs if name in ("src", "href", "data", "action")]
        assert not [name for name, _ in attrs if name.startswith("on")]


def test_html_takes_nothing_from_a_plan_as_markup() -> None:
    text = page.text(_report(plan(resource(QUEUE, EVIL)), plan(resource(QUEUE, "q", {EVIL: EVIL}))))
    found = _Scripts()
    found.feed(text)
    assert found.tags.count("script") == 1
    assert "img" not in found.tags


def test_html_loads_nothing(report: Report) -> None:
    text = page.text(report)
    found = _Scripts()
    found.feed(text)
    assert [link for link in found.loads if not link.startswith("#")] == []
    assert re.findall(r"url\(|@import", text) == []
    assert "default-src 'none'" in text


def test_terminal_shows_names_in_brackets_as_they_are() -> None:
    report = _report(None, plan(resource(QUEUE, "[red]x[/]")))
    assert "[red]x[/]" in _terminal(report)


def test_bars_are_as_long_as_the_costs() -> None:
    rows = [CostRow("a", Decimal(200), Decimal(50)), CostRow("b", Decimal(100), None)]
    root = ElementTree.fromstring(bars(rows))
    widths = [float(item.get("width", 0)) for item in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[0] == 2 * widths[1]
    assert "200.00 (+50.00)" in [item.text for item in root.iter("{http://www.w3.org/2000/svg}text")]


def test_no_action_is_without_a_sign() -> None:
    assert set(terminal._SIGNS) == set(Action)
