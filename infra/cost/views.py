"""The same line items, bought or run in another way."""

from dataclasses import replace

from infra.cost.model import LineItem, View
from infra.cost.schedules import OFFICE_SHARE


def apply(line: LineItem, view: View) -> LineItem:
    """`line` as it would be in `view`; unchanged where the view has nothing to say about it."""
    if view is View.SPOT and line.spot_usd is not None:
        return replace(line, what=f"{line.what}, moved to Spot", unit_usd=line.spot_usd)
    if view is View.SAVINGS_PLAN and line.committed_usd is not None:
        return replace(line, what=f"{line.what}, committed for a year", unit_usd=line.committed_usd)
    if view is View.SCHEDULE and line.is_stoppable:
        return replace(line, what=f"{line.what}, 12 hours on 5 days", quantity=line.quantity * OFFICE_SHARE)
    return line
