"""Monthly cost of a stack, from its plan: no account, no network, no price service.

    from infra.cost import View, compare, estimate
    from infra.plan import run

    now = estimate(run("prod"))                  # on demand, default usage
    now.monthly_usd                              # exact Decimal; `cents` rounds
    now.components                               # {component: Decimal}, the most expensive first
    now.rounded_components                       # the same in cents, adding up to cents(now.monthly_usd)
    now.lines                                    # LineItem: component, resource, quantity, unit, price, …
    now.assumptions                              # usage that no plan can tell, with the defaults taken
    now.unpriced                                 # types in no table; empty for every stack of this repository
    now.saving_usd(View.SPOT)                    # also SAVINGS_PLAN and SCHEDULE
    estimate(plan, view=View.SPOT).lines         # the line items bought that way
    estimate(plan, usage={"nat_gb": 100})        # override assumptions by name
    compare(estimate(before), now).components    # Delta: component, old_usd, new_usd, delta_usd
    document(now)                                # what `tradestack cost STACK --json` prints

Nothing here runs a program: who has a plan has everything an estimate needs. A plan that holds no AWS
resource costs nothing.
"""

from infra.cost.estimate import estimate
from infra.cost.model import Assumption, Comparison, Delta, Estimate, LineItem, View, cents, compare
from infra.cost.show import document

__all__ = [
    "Assumption",
    "Comparison",
    "Delta",
    "Estimate",
    "LineItem",
    "View",
    "cents",
    "compare",
    "document",
    "estimate",
]
