"""The same line items, bought or run in another way."""

from dataclasses import replace

from infra.cost.model import LineItem, View
from infra.cost.prices import PriceTable
from infra.cost.schedules import OFFICE_SHARE


def apply(line: LineItem, view: View, table: PriceTable) -> LineItem:
    """`line` as it would be in `view`; unchanged where the view has nothing to say about it."""
    if view is View.SPOT and line.can_be_spot:
        return _discounted(line, "moved to Spot", "spot", table)
    if view is View.SAVINGS_PLAN and line.commitment:
        return _discounted(line, "committed for a year", line.commitment, table)
    if view is View.SCHEDULE and line.is_stoppable:
        return replace(line, what=f"{line.what}, 12 hours on 5 days", quantity=line.quantity * OFFICE_SHARE)
    return line


def _discounted(line: LineItem, how: str, name: str, table: PriceTable) -> LineItem:
    discount = table.discounts[name]
    return replace(
        line,
        what=f"{line.what}, {how}",
        unit_usd=line.unit_usd * (1 - discount.share),
        is_estimate=line.is_estimate or discount.is_estimate,
    )
