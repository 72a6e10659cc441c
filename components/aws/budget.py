"""What a stack may cost in a month, and who hears when it costs more."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, Input, ResourceOptions

from components.aws.scope import Scope

ACTUAL_PERCENT = (50, 80, 100)
"""Shares of the budget at which money already spent is announced."""
FORECAST_PERCENT = 100
"""Share of the budget at which the forecast for the month is announced."""
STACK_TAG = "tradestack:stack"
"""Cost-allocation tag that every resource carries, from the provider's default tags."""


@dataclass(frozen=True)
class BudgetArgs:
    """The budget of one stack."""

    scope: Scope
    """Names and account."""
    stack: str
    """Value of the tag `tradestack:stack` by which its costs are told apart."""
    monthly_usd: int
    """Budget of a calendar month in US dollars, at least 1."""
    alerts_topic_arn: Input[str]
    """Topic that hears of it; its policy must let `budgets` and `costalerts` publish."""
    emails: Sequence[str] = ()
    """Addresses that hear of it too; AWS takes at most 10."""
    anomaly_usd: int | None = 50
    """Unusual costs from this many US dollars on are announced; None leaves the watch out."""
    activate_tags: Sequence[str] = ()
    """Cost-allocation tags to activate. Only the paying account may do it, and only for tags that billing
    already knows, a day after the first resource carries them."""


class Budget(ComponentResource):
    """A monthly budget over the stack's tag, a watch for unusual costs and the tags it needs."""

    budget_name: str
    """Name of the budget."""

    def __init__(self, name: str, args: BudgetArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Budget", name, None, opts)
        _check(args)
        child = ResourceOptions(parent=self)
        self.budget_name = args.scope.name("monthly", limit=100)
        notices = [("ACTUAL", percent) for percent in ACTUAL_PERCENT] + [("FORECASTED", FORECAST_PERCENT)]
        aws.budgets.Budget(
            name,
            name=self.budget_name,
            budget_type="COST",
            time_unit="MONTHLY",
            limit_amount=str(args.monthly_usd),
            limit_unit="USD",
            # AWS puts `user:` before tags that accounts define themselves, and `$` before the value.
            cost_filters=[{"name": "TagKeyValue", "values": [f"user:{STACK_TAG}${args.stack}"]}],
            notifications=[
                {
                    "notification_type": kind,
                    "comparison_operator": "GREATER_THAN",
                    "threshold": percent,
                    "threshold_type": "PERCENTAGE",
                    "subscriber_sns_topic_arns": [args.alerts_topic_arn],
                    "subscriber_email_addresses": list(args.emails),
                }
                for kind, percent in notices
            ],
            tags=args.scope.tags(self.budget_name),
            opts=child,
        )
        if args.anomaly_usd is not None:
            self._watch(name, args, args.anomaly_usd)
        for tag in args.activate_tags:
            aws.costexplorer.CostAllocationTag(
                f"{name}-{tag.replace(':', '-')}", tag_key=tag, status="Active", opts=child
            )
        self.register_outputs({})

    def _watch(self, name: str, args: BudgetArgs, impact_usd: int) -> None:
        watch = args.scope.name("costs", limit=1024)
        tags = {"Key": STACK_TAG, "MatchOptions": None, "Values": [args.stack]}
        others = dict.fromkeys(("And", "CostCategories", "Dimensions", "Not", "Or"))
        monitor = aws.costexplorer.AnomalyMonitor(
            name,
            name=watch,
            monitor_type="CUSTOM",
            # The service answers with every key, and the provider compares the whole text.
            monitor_specification=json.dumps(others | {"Tags": tags}, sort_keys=True),
            tags=args.scope.tags(watch),
            opts=ResourceOptions(parent=self),
        )
        aws.costexplorer.AnomalySubscription(
            name,
            name=watch,
            frequency="IMMEDIATE",
            monitor_arn_lists=[monitor.arn],
            # E-mails cannot be sent at once, a topic can.
            subscribers=[{"type": "SNS", "address": args.alerts_topic_arn}],
            threshold_expression={
                "dimension": {
                    "key": "ANOMALY_TOTAL_IMPACT_ABSOLUTE",
                    "match_options": ["GREATER_THAN_OR_EQUAL"],
                    "values": [str(impact_usd)],
                }
            },
            tags=args.scope.tags(watch),
            opts=ResourceOptions(parent=self),
        )


def _check(args: BudgetArgs) -> None:
    if args.monthly_usd < 1:
        raise ValueError(f"budget: monthly_usd is {args.monthly_usd}; at least 1 US dollar")
    # With the topic there are 11 subscribers, which is what one notification takes.
    if len(args.emails) > 10:
        raise ValueError(f"budget: {len(args.emails)} e-mail addresses; AWS takes at most 10")
