"""An estimate for people (tables) and for programs (JSON)."""

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from infra.cost.model import Estimate, LineItem, View, cents

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def document(estimate: Estimate, *, lines: bool = False) -> dict[str, Any]:
    """The estimate as JSON data; with `lines`, every line item too.

    Components are rounded so that they add up to the total.
    """
    return {
        "stack": estimate.stack,
        "view": estimate.view.value,
        "monthly_usd": float(cents(estimate.monthly_usd)),
        "views": {
            View.ON_DEMAND.value: float(cents(estimate.baseline_usd)),
            **{view.value: float(cents(usd)) for view, usd in estimate.alternatives.items()},
        },
        "uncited_usd": float(cents(estimate.uncited_usd)),
        "components": {name: float(usd) for name, usd in estimate.rounded_components.items()},
        "assumptions": {
            item.name: {
                "value": float(item.value),
                "unit": item.unit,
                "per": item.per,
                "total": float(item.total),
                "why": item.why,
            }
            for item in estimate.assumptions
        },
        "notes": list(estimate.notes),
        "free": dict(estimate.free),
        "by_usage": dict(estimate.by_usage),
        "unpriced": dict(estimate.unpriced),
        **({"lines": [_line(line) for line in estimate.lines]} if lines else {}),
    }


def _line(line: LineItem) -> dict[str, Any]:
    return {
        "component": line.component,
        "type": line.type,
        "resource": line.resource,
        "what": line.what,
        "quantity": float(line.quantity),
        "unit": line.unit,
        "unit_usd": float(line.unit_usd),
        "monthly_usd": float(cents(line.monthly_usd)),
        "price": line.price,
        "estimate": line.is_estimate,
        "assumption": line.assumption,
    }


def text(estimate: Estimate, *, lines: bool = False) -> "RenderableType":
    """Components with their shares, the total, what it rests on; with `lines`, every line item."""
    from rich.console import Group

    parts: list[RenderableType] = [_components(estimate), "", *_summary(estimate)]
    if lines:
        parts += ["", _lines(estimate)]
    parts += ["", _assumptions(estimate)]
    return Group(*parts, *_remarks(estimate))


def _components(estimate: Estimate) -> "Table":
    table = _table("component", "USD a month", "share")
    total = estimate.monthly_usd or Decimal(1)
    for name, usd in estimate.rounded_components.items():
        table.add_row(name, f"{usd:,}", f"{usd / total:.1%}")
    return table


def _summary(estimate: Estimate) -> Iterator[str]:
    yield f"[bold]{estimate.stack}: ${cents(estimate.monthly_usd):,} a month[/], {estimate.view}"
    for view, usd in estimate.alternatives.items():
        if estimate.saving_usd(view):
            yield f"  --view {view}: ${cents(usd):,}, saves ${cents(estimate.saving_usd(view)):,}"
    if estimate.uncited_usd:
        usd = cents(estimate.uncited_usd)
        yield f"${usd:,} of it rests on prices without a citable source, marked ~ among the line items"


def _lines(estimate: Estimate) -> "Table":
    table = _table("component", "resource", "what", "quantity", "unit", "USD a unit", "USD a month")
    for line in estimate.lines:
        mark = "~" if line.is_estimate else ""
        usage = f" [dim]({line.assumption})[/]" if line.assumption else ""
        table.add_row(
            line.component,
            line.resource,
            line.what + usage,
            f"{line.quantity.quantize(Decimal('0.01')):,}",
            line.unit,
            f"{mark}{line.unit_usd.normalize():f}",
            f"{cents(line.monthly_usd):,}",
        )
    return table


def _assumptions(estimate: Estimate) -> "Table":
    table = _table("assumed", "value", "unit", "per", "because")
    for item in estimate.assumptions:
        table.add_row(item.name, f"{item.value.normalize():f}", item.unit, item.per, item.why)
    return table


def _remarks(estimate: Estimate) -> Iterator[str]:
    from rich.markup import escape

    for note in estimate.notes:
        yield f"[yellow]note:[/] {escape(note)}"
    for token, number in estimate.unpriced.items():
        yield f"[red]unpriced:[/] {number} x {escape(token)}"


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None)
    for column in columns:
        is_number = column.startswith("USD") or column in ("share", "quantity", "value")
        table.add_column(column, justify="right" if is_number else "left")
    return table
