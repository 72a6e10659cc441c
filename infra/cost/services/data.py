"""Databases, caches, brokers and streams."""

import json
from collections.abc import Iterator
from decimal import Decimal

from infra.cost.context import Charge, Context, use
from infra.cost.inputs import Inputs
from infra.cost.model import HOURS
from infra.cost.schedules import times, weekly_average
from infra.plan.model import PlannedResource, Unknown

RDS = "aws:rds/instance:Instance"
SCHEDULER = "aws:scheduler/schedule:Schedule"

_FREE_IOPS = (Decimal(3000), Decimal(12000))
"""IOPS included with gp3 storage below and from 400 GiB, for PostgreSQL."""


_CPUS = {"xlarge": Decimal(4), "2xlarge": Decimal(8), "4xlarge": Decimal(16)}
"""vCPUs by the size of a class; smaller sizes have 2."""


def database(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Hours of an RDS instance by its schedule, storage, IOPS, backups, managed secret."""
    price = context.price("rds", inputs.text("instanceClass"))
    is_multi = inputs.flag("multiAz")
    copies = 2 if is_multi else 1
    label = f"{price.item}, {'Multi-AZ' if is_multi else 'Single-AZ'}"
    share = _running_share(inputs, context)
    if share != 1:
        label += f", {share:.0%} of the week by schedule"
    yield Charge(
        label,
        HOURS * share * copies,
        price,
        commitment="rds-reserved" if share == 1 else "",
        # RDS refuses to stop an instance that has or is a read replica.
        is_stoppable=share == 1 and not _replicates(inputs, context),
    )
    storage = storage_gib(inputs, context)
    kind = inputs.text("storageType", "gp3")
    what = f"{kind} storage of {storage.normalize():f} GiB"
    yield Charge(what, storage * copies, context.price("rds", f"storage-{kind}"))
    included = _FREE_IOPS[storage >= 400]
    extra = inputs.number("iops", included) - included
    if kind == "gp3" and extra > 0:
        yield Charge("IOPS beyond the included", extra * copies, context.price("rds", "gp3-iops"))
    yield from _backups(inputs, context, storage)
    yield from _watching(inputs, context, price.item)
    if inputs.flag("manageMasterUserPassword"):
        yield Charge("managed master secret", Decimal(1), context.price("secretsmanager", "secret"))


def storage_gib(inputs: Inputs, context: Context) -> Decimal:
    """Allocated storage of an instance; a replica that says nothing has its source's."""
    if inputs.value("allocatedStorage") is None:
        source = context.referenced(inputs.resource, "replicateSourceDb", RDS)
        if source is not None:
            return context.inputs(source).number("allocatedStorage")
    return inputs.number("allocatedStorage")


def _backups(inputs: Inputs, context: Context, storage: Decimal) -> Iterator[Charge]:
    days = inputs.number("backupRetentionPeriod", 0)
    if not days:
        return
    used = storage * context.usage.take("database_fill")
    stored = used * (1 + context.usage.take("database_change") * days)
    # As much backup storage as the database has is included.
    if stored > storage:
        price = context.price("rds", "backup")
        what = f"automated backups of {days} days beyond the included"
        yield Charge(what, stored - storage, price, assumption="database_change")


def _watching(inputs: Inputs, context: Context, instance_class: str) -> Iterator[Charge]:
    if inputs.text("databaseInsightsMode", "standard") == "advanced":
        cpus = _CPUS.get(instance_class.rsplit(".", 1)[-1], Decimal(2))
        price = context.price("rds", "advanced-insights")
        yield Charge(f"Database Insights of {cpus} vCPUs", cpus * HOURS, price)
    seconds = inputs.number("monitoringInterval", 0)
    if seconds:
        price = context.price("logs", "standard")
        yield use(context, "os_metrics_gb", price, "operating system metrics", 60 / seconds)


def _replicates(inputs: Inputs, context: Context) -> bool:
    if inputs.value("replicateSourceDb") is not None:
        return True
    return any(True for _ in context.referring(inputs.resource, "replicateSourceDb", RDS))


def _running_share(inputs: Inputs, context: Context) -> Decimal:
    events = []
    for resource in context.of_type(SCHEDULER):
        schedule = context.inputs(resource)
        # What calls RDS itself is known beforehand; the ARN of a function or task is not.
        action = str(schedule.value("target.arn")).rsplit(":", 1)[-1]
        if action not in ("startDBInstance", "stopDBInstance") or not _aims_at(schedule, inputs):
            continue
        try:
            moments = times(schedule.text("scheduleExpression", ""))
        except ValueError as error:
            context.notes.append(f"{resource.name}: schedule not counted: {error}")
            continue
        events += [(moment, Decimal(action == "startDBInstance")) for moment in moments]
    return weekly_average(events) if events else Decimal(1)


def _aims_at(schedule: Inputs, database: Inputs) -> bool:
    resource: PlannedResource = schedule.resource
    if database.resource.urn in resource.property_dependencies.get("target", ()):
        return True
    given = schedule.value("target.input")
    if given is None or isinstance(given, Unknown):
        return False
    fields = {key.lower(): value for key, value in json.loads(given).items()}
    return bool(fields.get("dbinstanceidentifier") == database.text("identifier", ""))


def cache(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Nodes of an ElastiCache replication group and its snapshots beyond the first."""
    engine = inputs.text("engine", "redis")
    price = context.price(f"elasticache-{engine}", inputs.text("nodeType"))
    shards, nodes = _cache_nodes(inputs)
    yield Charge(
        f"{nodes.normalize():f} x {price.item} ({engine})",
        nodes * HOURS,
        price,
        commitment="elasticache-reserved",
    )
    kept = inputs.number("snapshotRetentionLimit", 0) - 1
    if kept > 0:
        price = context.price("elasticache-backup", "storage")
        yield use(
            context, "cache_snapshot_gb", price, f"snapshots beyond the first of {kept + 1}", shards * kept
        )


def _cache_nodes(inputs: Inputs) -> tuple[Decimal, Decimal]:
    shards = inputs.number("numNodeGroups", 1)
    if inputs.value("replicasPerNodeGroup") is not None:
        return shards, shards * (1 + inputs.number("replicasPerNodeGroup", 1))
    return shards, inputs.number("numCacheClusters", shards)


def kafka(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Brokers of an MSK cluster and their storage; replication between brokers is free."""
    brokers = inputs.number("numberOfBrokerNodes")
    price = context.price("msk", inputs.text("brokerNodeGroupInfo.instanceType"))
    yield Charge(f"{brokers.normalize():f} x {price.item}", brokers * HOURS, price)
    size = inputs.number("brokerNodeGroupInfo.storageInfo.ebsStorageInfo.volumeSize", 100)
    what = f"storage of {size.normalize():f} GiB per broker"
    yield Charge(what, brokers * size, context.price("msk", "storage"))
    if inputs.text("enhancedMonitoring", "DEFAULT") != "DEFAULT":
        price = context.price("cloudwatch", "metric")
        yield use(context, "broker_metrics", price, "metrics beyond the free level", brokers)


def stream(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """A Kinesis stream, on demand or by shards."""
    if inputs.text("streamModeDetails.streamMode", "PROVISIONED") == "ON_DEMAND":
        yield Charge("on-demand stream", HOURS, context.price("kinesis", "on-demand-stream"))
        written = context.usage.take("stream_gb")
        price = context.price("kinesis", "on-demand-in")
        yield Charge("data written", written, price, assumption="stream_gb")
        yield Charge("data read", written, context.price("kinesis", "on-demand-out"), assumption="stream_gb")
        return
    shards = inputs.number("shardCount")
    yield Charge(f"{shards.normalize():f} shards", shards * HOURS, context.price("kinesis", "shard"))
    # A put unit is 25 kB; events of about 1 kB each take one.
    millions = context.usage.take("stream_gb") * Decimal("1.048576")
    yield Charge("put units", millions, context.price("kinesis", "put-units"), assumption="stream_gb")
    if inputs.number("retentionPeriod", 24) > 24:
        yield Charge("retention beyond a day", shards * HOURS, context.price("kinesis", "shard-retention"))


def delivery_stream(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Data through a Firehose delivery stream."""
    yield use(context, "firehose_gb", context.price("firehose", "data"), "data delivered")
