"""What pricing functions share: the plan, the price table, the usage, and sizes counted from the plan."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from infra.cost.inputs import Inputs
from infra.cost.model import ZERO
from infra.cost.prices import Price, PriceTable
from infra.cost.schedules import times, weekly_average
from infra.cost.usage import Usage
from infra.plan.model import Plan, PlannedResource

NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
ASG_SCHEDULE = "aws:autoscaling/schedule:Schedule"


@dataclass(frozen=True)
class Charge:
    """One thing a resource is billed for."""

    what: str
    """In words, such as `3 x m7g.large`."""
    quantity: Decimal
    """Units of the price a month."""
    price: Price
    """List price of a unit."""
    assumption: str = ""
    """Usage assumption that the quantity rests on."""
    usd: Decimal | None = None
    """Price of a unit where it is not the list price, such as a Spot node's."""
    can_be_spot: bool = False
    """Whether it tolerates interruption and is not Spot yet."""
    commitment: str = ""
    """Discount of a one-year commitment, where there is one."""
    is_stoppable: bool = False
    """Whether it runs all month and could be stopped out of hours."""
    is_uncited: bool = False
    """Whether a discount without a source is part of `usd`."""


@dataclass
class Context:
    """State of one estimate."""

    plan: Plan
    table: PriceTable
    usage: Usage
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._by_type: dict[str, list[PlannedResource]] = {}
        for resource in self.plan.resources:
            self._by_type.setdefault(resource.type, []).append(resource)
        groups = (self.inputs(resource) for resource in self.of_type(NODE_GROUP))
        self.nodes = max(sum((self.running_nodes(group) for group in groups), ZERO), Decimal(1))
        """Nodes that run, on average over a week; at least one, as a stack always carries some traffic."""
        self.notes.clear()

    def price(self, service: str, item: str) -> Price:
        """List price of an item; see `PriceTable.price`."""
        return self.table.price(service, item)

    def inputs(self, resource: PlannedResource) -> Inputs:
        """Inputs of a resource; unknown ones are noted."""
        return Inputs(resource, self.notes)

    def of_type(self, *types: str) -> Sequence[PlannedResource]:
        """Resources of these types, in plan order."""
        return [resource for token in types for resource in self._by_type.get(token, [])]

    def referenced(self, resource: PlannedResource, key: str, token: str) -> PlannedResource | None:
        """The resource of type `token` that the input `key` depends on, if any."""
        urns = resource.property_dependencies.get(key, ())
        found = (self.plan.by_urn.get(urn) for urn in urns)
        return next((other for other in found if other and other.type == token), None)

    def referring(self, resource: PlannedResource, key: str, token: str) -> Iterator[PlannedResource]:
        """Resources of type `token` whose input `key` depends on `resource`."""
        for other in self.of_type(token):
            if resource.urn in other.property_dependencies.get(key, ()):
                yield other

    def running_nodes(self, group: Inputs) -> Decimal:
        """Nodes of a group on average over a week: the desired ones, where no schedule says otherwise."""
        nodes = nodes_of(group)
        events: list[tuple[int, Decimal]] = []
        for resource in self.referring(group.resource, "autoscalingGroupName", ASG_SCHEDULE):
            schedule = self.inputs(resource)
            # -1 leaves a size as it is; a higher minimum raises the number of machines too.
            size = max(schedule.number("desiredCapacity", -1), schedule.number("minSize", -1))
            if size < 0:
                continue
            try:
                moments = times(schedule.text("recurrence", ""))
            except ValueError as error:
                self.notes.append(f"{resource.name}: schedule not counted: {error}")
                continue
            events += [(moment, size) for moment in moments]
        return weekly_average(events) if events else nodes


def nodes_of(group: Inputs) -> Decimal:
    """Desired nodes of a node group."""
    return group.number("scalingConfig.desiredSize", 1)


def use(context: Context, name: str, price: Price, what: str, times: Decimal | int = 1) -> Charge:
    """A charge for the assumed usage `name`, in the unit of `price`."""
    return Charge(what, context.usage.take(name, times), price, assumption=name)


def count(items: Iterable[object]) -> Decimal:
    """How many there are."""
    return Decimal(sum(1 for _ in items))
