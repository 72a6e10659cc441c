"""Published totals as oracles, and docs/cost.md kept true.

TRADESTACK_WRITE_SNAPSHOTS=1 rewrites the tables of docs/cost.md that are marked as written by this test.
"""

import os
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from infra.cost import View, cents
from infra.paths import REPOSITORY
from tests.cost import published

DOCUMENT = REPOSITORY / "docs" / "cost.md"
STACKS = tuple(published.RANGES)


def _written(section: str) -> str:
    return _sections()[section]


def _sections() -> dict[str, str]:
    found = re.findall(r"<!-- begin ([\w-]+) -->\n(.*?)<!-- end \1 -->", DOCUMENT.read_text(), re.DOTALL)
    return dict(found)


def _rewrite(section: str, text: str) -> None:
    path = Path(DOCUMENT)
    pattern = rf"(<!-- begin {section} -->\n).*?(<!-- end {section} -->)"
    path.write_text(
        re.sub(pattern, lambda m: f"{m.group(1)}{text}{m.group(2)}", path.read_text(), flags=re.DOTALL)
    )


def _rows(section: str) -> dict[str, list[str]]:
    """Cells of a section's table by the first cell, without head and rule."""
    rows = [line.strip("| ").split(" | ") for line in _written(section).splitlines()]
    return {row[0].strip("*"): row[1:] for row in rows[2:]}


def _bills() -> str:
    lines = ["| bill | published | ours | difference |", "|---|---:|---:|---:|"]
    for item in published.items():
        mark = " *" if item.needs_explanation else ""
        lines.append(f"| {item.key} | {item.published} | {cents(item.ours)} | {item.difference:+.1%}{mark} |")
    return "\n".join(lines) + "\n"


def _stack_amounts() -> Iterator[tuple[str, list[Decimal]]]:
    found = [published.stack(name) for name in STACKS]
    for groups, total in ((published.COUNTED, "counted by the documents too"), (published.ADDED, "added")):
        amounts = [published.by_group(item, groups) for item in found]
        for group in groups:
            yield group, [amount[group] for amount in amounts]
        yield total, [sum(amount.values(), Decimal(0)) for amount in amounts]
    yield "total", [item.monthly_usd for item in found]
    for view in (View.SPOT, View.SAVINGS_PLAN, View.SCHEDULE):
        yield f"saved by {view}", [item.saving_usd(view) for item in found]


def _stacks() -> str:
    ranges = [f"{low:,}-{high:,}" for low, high in published.RANGES.values()]
    lines = [
        f"| USD a month | {' | '.join(STACKS)} |",
        "|---|---:|---:|---:|",
        f"| published total | {' | '.join(ranges)} |",
    ]
    for name, amounts in _stack_amounts():
        cells = [f"{amount:,.0f}" for amount in amounts]
        is_sum = name in ("counted by the documents too", "added", "total")
        mark = "**" if is_sum else ""
        lines.append(f"| {mark}{name}{mark} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def test_bills_are_as_documented() -> None:
    if os.environ.get("TRADESTACK_WRITE_SNAPSHOTS"):
        _rewrite("bills", _bills())
    assert _written("bills") == _bills()


def test_exactly_what_differs_is_explained() -> None:
    differs = {item.key for item in published.items() if item.needs_explanation}
    assert set(_rows("explanations")) == differs


def test_the_same_bill_on_eks_comes_to_nearly_the_same_total() -> None:
    total = published.eks_bill()[-1]
    assert total.published == 304
    assert not total.needs_explanation


def test_published_rows_add_up_to_the_published_totals() -> None:
    for bill in (published.eks_bill(), published.gke_bill()):
        *rows, total = bill
        # The second document rounds its total.
        assert abs(sum(item.published for item in rows) - total.published) <= 1


def test_stacks_are_as_documented() -> None:
    """Within 5 % or 5 dollars; beyond that the document must be written again."""
    if os.environ.get("TRADESTACK_WRITE_SNAPSHOTS"):
        _rewrite("stacks", _stacks())
    documented = _rows("stacks")
    documented.pop("published total")
    amounts = dict(_stack_amounts())
    assert set(documented) == set(amounts)
    for name, cells in documented.items():
        for stack, cell, amount in zip(STACKS, cells, amounts[name], strict=True):
            written = Decimal(cell.replace(",", ""))
            assert abs(written - amount) <= max(Decimal(5), amount * Decimal("0.05")), (
                f"docs/cost.md says {stack} pays {cell} for '{name}', the estimate {amount:.2f}: "
                "run this test with TRADESTACK_WRITE_SNAPSHOTS=1"
            )


@pytest.mark.parametrize("name", STACKS)
def test_every_type_of_a_stack_is_in_a_table(name: str) -> None:
    found = published.stack(name)
    assert not found.unpriced


@pytest.mark.parametrize("name", STACKS)
def test_nothing_of_a_stack_has_to_be_guessed(name: str) -> None:
    assert not published.stack(name).notes


@pytest.mark.parametrize("name", STACKS)
def test_every_dollar_of_a_stack_is_in_one_documented_group(name: str) -> None:
    found = published.stack(name)
    groups = [*published.by_group(found, published.COUNTED).values()]
    groups += published.by_group(found, published.ADDED).values()
    total = pytest.approx(found.monthly_usd)
    assert sum(groups) == total
    assert sum(found.components.values()) == total


def test_what_the_document_says_of_the_stacks_is_true() -> None:
    found = {name: published.stack(name) for name in STACKS}
    counted = {
        name: sum(published.by_group(item, published.COUNTED).values(), Decimal(0))
        for name, item in found.items()
    }
    (dev_low, dev_high), (_, staging_high), (prod_low, prod_high) = published.RANGES.values()
    assert found["dev"].monthly_usd > dev_high
    assert found["staging"].monthly_usd > staging_high
    assert found["prod"].monthly_usd > prod_high
    assert counted["dev"] < dev_low
    assert counted["staging"] > staging_high
    assert prod_low <= counted["prod"] <= prod_high
    left_out = {name: 1 - counted[name] / found[name].monthly_usd for name in STACKS}
    assert left_out["dev"] > Decimal(2) / 3
    assert all(Decimal("0.45") < left_out[name] < Decimal("0.5") for name in ("staging", "prod"))


def test_nodes_of_dev_are_paid_in_market_hours_only() -> None:
    nodes = [line for line in published.stack("dev").lines if line.price.startswith("ec2/")]
    assert nodes
    assert all("on average by schedule" in line.what for line in nodes)


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_keeps_within_its_budget(name: str) -> None:
    """The budget of a stack raises an alarm; a stack that starts above it would alarm from its first day."""
    budgets = [item for item in published.plan(name).resources if item.type == "aws:budgets/budget:Budget"]
    for budget in budgets:
        assert published.stack(name).monthly_usd <= Decimal(str(budget.inputs["limitAmount"])), budget.name
