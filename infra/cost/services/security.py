"""Keys, secrets and the web firewall."""

from collections.abc import Iterator
from decimal import Decimal

from infra.cost.context import Charge, Context, use
from infra.cost.inputs import Inputs


def key(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """A customer key in its first year; each of the first two rotations adds as much again."""
    yield Charge("customer key", Decimal(1), context.price("kms", "key"))
    yield use(context, "kms_ten_thousands", context.price("kms", "requests"), "requests")


def secret(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """A secret and its reads."""
    yield Charge("secret", Decimal(1), context.price("secretsmanager", "secret"))
    yield use(context, "secret_calls_ten_thousands", context.price("secretsmanager", "calls"), "reads")


def web_acl(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """A web ACL, each of its rules (a managed group counts as one), and the requests it looks at."""
    yield Charge("web ACL", Decimal(1), context.price("waf", "acl"))
    rules = Decimal(len(inputs.items("rules")))
    yield Charge(f"{rules} rules", rules, context.price("waf", "rule"))
    yield use(context, "waf_millions", context.price("waf", "requests"), "requests")
