"""From a plan to an estimate."""

from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal

from infra.cost import catalog, views
from infra.cost.context import Charge, Context
from infra.cost.inputs import Undetermined
from infra.cost.model import ZERO, Estimate, LineItem, View
from infra.cost.prices import PriceTable, load
from infra.cost.usage import Usage
from infra.errors import TradestackError
from infra.plan.model import Plan, PlannedResource

_STACK = "pulumi:pulumi:Stack"


def estimate(
    plan: Plan,
    *,
    view: View = View.ON_DEMAND,
    usage: Mapping[str, float | Decimal | str] | None = None,
    prices: PriceTable | None = None,
) -> Estimate:
    """What the resources of `plan` cost in a month of 730 hours.

    `usage` overrides assumptions by name (see `usage.yaml`), `prices` the price table. A plan without AWS
    resources costs nothing: its volumes and load balancers are those of somebody's own cluster.

    Raises:
        TradestackError: a class or kind has no price, or `usage` names what there is not.
    """
    table = prices or load()
    context = Context(plan, table, Usage(usage))
    is_on_aws = any(resource.type.startswith("aws:") for resource in plan.resources)
    lines: list[LineItem] = []
    free: Counter[str] = Counter()
    by_usage: Counter[str] = Counter()
    unpriced: Counter[str] = Counter()
    for resource in plan.resources:
        if not resource.custom:
            continue
        priced = is_on_aws and resource.type in catalog.PRICED
        found = list(_lines(resource, context)) if priced else []
        lines += found
        if resource.type in catalog.BY_USAGE:
            by_usage[resource.type] += 1
        elif not is_on_aws or (catalog.is_free(resource.type) and not found):
            free[resource.type] += 1
        elif not priced:
            unpriced[resource.type] += 1
    _note_region(context, table)
    seen = {each: tuple(views.apply(line, each, table) for line in lines) for each in View}
    totals = {each: sum((line.monthly_usd for line in seen[each]), ZERO) for each in View}
    return Estimate(
        stack=plan.stack,
        view=view,
        lines=seen[view],
        baseline_usd=totals.pop(View.ON_DEMAND),
        assumptions=context.usage.taken(),
        notes=tuple(dict.fromkeys(context.notes)),
        free=dict(sorted(free.items())),
        by_usage=dict(sorted(by_usage.items())),
        unpriced=dict(sorted(unpriced.items())),
        alternatives=totals,
    )


def _lines(resource: PlannedResource, context: Context) -> Iterator[LineItem]:
    component = _component(resource, context.plan)
    try:
        charges = list(catalog.PRICED[resource.type](context.inputs(resource), context))
    except Undetermined as error:
        context.notes.append(f"{resource.name} ({resource.type}): not counted: {error}")
        return
    except TradestackError as error:
        raise TradestackError(f"{resource.name} ({resource.type}): {error}", hint=error.hint) from error
    for charge in charges:
        yield _line(component, resource, charge)


def _line(component: str, resource: PlannedResource, charge: Charge) -> LineItem:
    price = charge.price
    return LineItem(
        component=component,
        type=resource.type,
        resource=resource.name,
        what=charge.what,
        quantity=charge.quantity,
        unit=price.unit,
        unit_usd=price.usd if charge.usd is None else charge.usd,
        price=f"{price.service}/{price.item}",
        is_estimate=price.is_estimate or charge.is_uncited,
        assumption=charge.assumption,
        can_be_spot=charge.can_be_spot,
        commitment=charge.commitment,
        is_stoppable=charge.is_stoppable,
    )


def _component(resource: PlannedResource, plan: Plan) -> str:
    """Name of the ancestor directly under the stack, or of the resource itself when it has none."""
    at = resource
    while (parent := plan.by_urn.get(at.parent)) is not None and parent.type != _STACK:
        at = parent
    return at.name


def _note_region(context: Context, table: PriceTable) -> None:
    for provider in context.of_type("pulumi:providers:aws"):
        region = context.inputs(provider).text("region", table.region)
        if region != table.region:
            context.notes.append(
                f"provider '{provider.name}' works in {region}; all prices are those of {table.region}"
            )
