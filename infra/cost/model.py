"""What an estimate consists of; every amount is an exact Decimal in US dollars a month."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from enum import StrEnum
from functools import cached_property

HOURS = Decimal(730)
"""Hours of a month, as AWS counts them."""

ZERO = Decimal(0)
CENT = Decimal("0.01")


class View(StrEnum):
    """How the same resources could be bought."""

    ON_DEMAND = "on-demand"
    """As the plan says: no commitment; groups that are Spot already at Spot prices, schedules counted."""
    SPOT = "spot"
    """Node groups that tolerate interruption moved to Spot."""
    SAVINGS_PLAN = "savings-plan"
    """Everything that runs all month under a one-year commitment, nothing paid upfront."""
    SCHEDULE = "schedule"
    """What can be stopped runs 12 hours on 5 days."""


def cents(amount: Decimal) -> Decimal:
    """`amount` rounded half up to whole cents."""
    return amount.quantize(CENT, ROUND_HALF_UP)


@dataclass(frozen=True)
class LineItem:
    """One thing that costs money."""

    component: str
    """Name of the component directly under the stack that the resource belongs to."""
    type: str
    """Type token of the resource."""
    resource: str
    """Name of the resource in the program."""
    what: str
    """What is paid for, such as `3 x m7g.large`."""
    quantity: Decimal
    """Units a month."""
    unit: str
    """Unit of the price, such as `hour` or `GB-month`."""
    unit_usd: Decimal
    """Price of one unit."""
    price: str
    """`service/item` of the price table."""
    is_estimate: bool
    """Whether the price has no source that can be cited."""
    assumption: str = ""
    """Name of the usage assumption that the quantity rests on; empty when the plan says it."""
    can_be_spot: bool = False
    """Whether it tolerates interruption and is not Spot yet."""
    commitment: str = ""
    """Discount of the price table that a one-year commitment gives; empty where there is none."""
    is_stoppable: bool = False
    """Whether it runs all month and could be stopped out of hours."""

    @property
    def monthly_usd(self) -> Decimal:
        """Dollars a month."""
        return self.quantity * self.unit_usd


@dataclass(frozen=True)
class Assumption:
    """A quantity that no plan can tell."""

    name: str
    """Key to override it with."""
    value: Decimal
    """Quantity for one of `per`."""
    unit: str
    """Unit of the value."""
    per: str
    """What it is multiplied by: node, queue, stack, …"""
    why: str
    """Reason of the default; says so when it was overridden."""
    total: Decimal
    """Quantity that the stack's line items rest on, in the same unit."""


@dataclass(frozen=True)
class Estimate:
    """The monthly cost of one stack in one view."""

    stack: str
    view: View
    lines: tuple[LineItem, ...]
    """Line items in the order of the plan."""
    baseline_usd: Decimal
    """Exact dollars a month on demand, for comparison."""
    assumptions: tuple[Assumption, ...]
    """Those that were used, by name."""
    notes: tuple[str, ...] = ()
    """What could not be told from the plan, and what was counted instead."""
    free: Mapping[str, int] = field(default_factory=dict)
    """Types that cost nothing, with how many there are."""
    by_usage: Mapping[str, int] = field(default_factory=dict)
    """Types that cost money only by use that nothing is assumed about, with how many there are."""
    unpriced: Mapping[str, int] = field(default_factory=dict)
    """Types that are in no table, with how many there are; a complete estimate has none."""
    alternatives: Mapping[View, Decimal] = field(default_factory=dict)
    """Exact dollars a month in every view other than on demand."""

    @cached_property
    def components(self) -> Mapping[str, Decimal]:
        """Exact dollars a month by component, the most expensive first."""
        totals: dict[str, Decimal] = {}
        for line in self.lines:
            totals[line.component] = totals.get(line.component, ZERO) + line.monthly_usd
        return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))

    @cached_property
    def monthly_usd(self) -> Decimal:
        """Exact dollars a month."""
        return sum((line.monthly_usd for line in self.lines), ZERO)

    @cached_property
    def rounded_components(self) -> Mapping[str, Decimal]:
        """Components in whole cents that add up to the total in whole cents.

        The cents that are left after rounding down go to those that lost most by it.
        """
        rounded = {name: usd.quantize(CENT, ROUND_DOWN) for name, usd in self.components.items()}
        left = int((cents(self.monthly_usd) - sum(rounded.values(), ZERO)) / CENT)
        for name in sorted(rounded, key=lambda name: (rounded[name] - self.components[name], name))[:left]:
            rounded[name] += CENT
        return rounded

    def saving_usd(self, view: View) -> Decimal:
        """Dollars a month that `view` costs less than on demand."""
        return self.baseline_usd - self.alternatives.get(view, self.baseline_usd)

    @property
    def uncited_usd(self) -> Decimal:
        """Dollars a month that rest on prices without a source."""
        return sum((line.monthly_usd for line in self.lines if line.is_estimate), ZERO)


@dataclass(frozen=True)
class Delta:
    """A component's cost before and after."""

    component: str
    old_usd: Decimal
    """Zero for a new component."""
    new_usd: Decimal
    """Zero for one that is gone."""

    @property
    def delta_usd(self) -> Decimal:
        """Dollars a month more; negative for less."""
        return self.new_usd - self.old_usd


@dataclass(frozen=True)
class Comparison:
    """What a change costs."""

    old_usd: Decimal
    new_usd: Decimal
    components: tuple[Delta, ...]
    """Only components whose cost changes, the largest change first."""

    @property
    def delta_usd(self) -> Decimal:
        """Dollars a month more; negative for less."""
        return self.new_usd - self.old_usd


def compare(old: Estimate, new: Estimate) -> Comparison:
    """What changes from `old` to `new`, by component."""
    deltas = [
        Delta(name, old.components.get(name, ZERO), new.components.get(name, ZERO))
        for name in {*old.components, *new.components}
    ]
    changed = sorted((d for d in deltas if d.delta_usd), key=lambda d: (-abs(d.delta_usd), d.component))
    return Comparison(old.monthly_usd, new.monthly_usd, tuple(changed))
