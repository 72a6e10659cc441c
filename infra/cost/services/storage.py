"""Object storage, image registry, backups."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from infra.cost.context import Charge, Context, use
from infra.cost.inputs import Inputs
from infra.cost.model import HOURS, ZERO
from infra.cost.schedules import HOURS_OF_A_WEEK, times
from infra.cost.services.data import RDS, storage_gib

RESTORE_PLAN = "aws:backup/restoreTestingPlan:RestoreTestingPlan"
RESTORE_SELECTION = "aws:backup/restoreTestingSelection:RestoreTestingSelection"
LIFECYCLES = (
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
    "aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2",
)


def bucket(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Objects and requests of a bucket; part of them in the class that its lifecycle moves them to first."""
    stored = context.usage.take("s3_gb")
    cold = ZERO
    storage_class = _first_transition(inputs, context)
    if storage_class:
        cold = stored * context.usage.take("s3_cold_share")
        price = context.price("s3", storage_class)
        yield Charge(f"objects in {storage_class}", cold, price, assumption="s3_cold_share")
    yield Charge("objects", stored - cold, context.price("s3", "STANDARD"), assumption="s3_gb")
    yield use(context, "s3_writes_thousands", context.price("s3", "writes"), "writes and lists")
    yield use(context, "s3_reads_thousands", context.price("s3", "reads"), "reads")


def _first_transition(inputs: Inputs, context: Context) -> str:
    for token in LIFECYCLES:
        for resource in context.referring(inputs.resource, "bucket", token):
            rules: list[dict[str, Any]] = context.inputs(resource).items("rules")
            moves = [move for rule in rules for move in rule.get("transitions") or []]
            if moves:
                return str(min(moves, key=lambda move: float(move.get("days") or 0))["storageClass"])
    return ""


def repository(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Images kept in an ECR repository."""
    yield use(context, "ecr_gb", context.price("ecr", "storage"), "images")


def pull_through(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Upstream images cached in ECR."""
    yield use(context, "registry_gb", context.price("ecr", "storage"), "cached images")


def backup_plan(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Recovery points of the plan's databases under each rule, and their copies elsewhere.

    A rule keeps one whole copy and the changes of each further day; a copy to another region is the same
    again, plus the transfer of the daily changes.
    """
    databases = [context.inputs(resource) for resource in context.of_type(RDS)]
    primaries = [item for item in databases if item.value("replicateSourceDb") is None]
    stored = sum((storage_gib(item, context) for item in primaries), ZERO)
    data = stored * context.usage.take("database_fill") if stored else ZERO
    change = data * context.usage.take("database_change")
    for rule in inputs.items("rules"):
        name = str(rule.get("ruleName", "rule"))
        for what, lifecycle in _copies(rule):
            days = _days(lifecycle)
            kept = data + change * (days - 1)
            price = context.price("backup", "rds-snapshot")
            label = f"{name}: {what}, {days} days"
            yield Charge(label, kept, price, assumption="database_change")
        if rule.get("copyActions"):
            price = context.price("transfer", "between-regions")
            yield Charge(f"{name}: transfer of copies", change * 30, price, assumption="database_change")


def restore_test(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Weekly restores of a selection; the restored resource lives too briefly to count."""
    plan = context.referenced(inputs.resource, "restoreTestingPlanName", RESTORE_PLAN)
    try:
        runs = len(times(context.inputs(plan).text("scheduleExpression", "") if plan else ""))
    except ValueError as error:
        context.notes.append(f"{inputs.resource.name}: restore tests not counted: {error}")
        return
    tests = Decimal(runs * len(inputs.items("protectedResourceArns", 1))) * HOURS / HOURS_OF_A_WEEK
    yield Charge(f"{runs} restores a week", tests, context.price("backup", "restore-test"))


def _copies(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "recovery points", rule.get("lifecycle") or {}
    for number, copy in enumerate(rule.get("copyActions") or [], start=1):
        yield f"copy {number}", copy.get("lifecycle") or {}


def _days(lifecycle: dict[str, Any]) -> Decimal:
    # Without an end recovery points are kept for ever; a year of them is counted.
    return Decimal(str(lifecycle.get("deleteAfter") or 365))
