"""What watches the stack, pays for it, changes it and puts it to rest."""

from dataclasses import dataclass, replace

import pulumi
from pulumi import ResourceOptions

from components.aws.access import allow_api
from components.aws.audit import Audit, AuditArgs
from components.aws.backup import Backup, BackupArgs
from components.aws.budget import Budget, BudgetArgs
from components.aws.cluster import Cluster
from components.aws.containers import Containers
from components.aws.delivery import BuildNetwork, Delivery, DeliveryArgs
from components.aws.edge import Edge
from components.aws.observability import Kafka, LoadBalancer, Observability, ObservabilityArgs
from components.aws.schedule import DatabaseSchedule, DatabaseScheduleArgs
from infra.settings import CloudSettings
from infra.settings.cloud import DeliverySettings, ScheduleSettings
from stacks.cloud.data import DataServices
from stacks.cloud.foundation import APP_REPOSITORY, Foundation
from stacks.cloud.services import Services


@dataclass(frozen=True)
class Parts:
    """What is operated."""

    base: Foundation
    cluster: Cluster
    data: DataServices
    services: Services
    containers: Containers
    edge: Edge


def make_operations(settings: CloudSettings, parts: Parts, opts: ResourceOptions) -> Observability:
    """Audit trail, dashboard and alarms, budget, pipeline, hours of rest, backups."""
    base = parts.base
    Audit(
        "audit",
        AuditArgs(
            scope=base.scope,
            key_arn=base.keys.logs.arn,
            log_key_arn=base.keys.logs.arn,
            log_days=settings.log_days,
            bucket=base.storage.ready["logs"],
            alerts_topic_arn=base.alerts.topic_arn,
        ),
        opts,
    )
    Budget(
        "budget",
        BudgetArgs(
            scope=base.scope,
            stack=pulumi.get_stack(),
            monthly_usd=settings.budget,
            anomaly_usd=settings.unusual_cost or None,
            alerts_topic_arn=base.alerts.topic_arn,
            emails=settings.alert_emails,
        ),
        opts,
    )
    if settings.schedule is not None and settings.database.read_replicas == 0:
        DatabaseSchedule("database-hours", _hours(settings.schedule, parts), opts)
    if settings.delivery is not None:
        _make_delivery(settings, settings.delivery, parts, opts)
    Backup("backup", _backup(settings, base), opts)
    return Observability("observability", _observed(settings, parts), opts)


def _observed(settings: CloudSettings, parts: Parts) -> ObservabilityArgs:
    base, data, services, edge = parts.base, parts.data, parts.services, parts.edge
    return ObservabilityArgs(
        scope=base.scope,
        app_log_group=parts.cluster.app_log_group,
        alerts_topic_arn=base.alerts.topic_arn,
        cluster=parts.cluster.cluster_name,
        load_balancer=LoadBalancer(edge.load_balancer_suffix, edge.target_group_suffix),
        databases=[data.database.identifier, *data.database.replica_identifiers],
        cache_nodes=data.cache.nodes,
        kafka=Kafka(data.streaming.cluster_name, settings.streaming.brokers),
        queues=list(services.messaging.queue_names.values()),
        functions=services.functions.function_names,
        streams=[services.analytics.stream_name],
        rests=settings.schedule is not None,
    )


def _hours(hours: ScheduleSettings, parts: Parts) -> DatabaseScheduleArgs:
    def cron(clock: str) -> str:
        hour, minute = clock.split(":")
        return f"{int(minute)} {int(hour)} ? * {hours.days} *"

    return DatabaseScheduleArgs(
        scope=parts.base.scope,
        identifiers=[parts.data.database.identifier],
        start=cron(hours.start),
        stop=cron(hours.stop),
        zone=hours.time_zone,
        key_arn=parts.base.keys.data.arn,
    )


def _make_delivery(
    settings: CloudSettings, given: DeliverySettings, parts: Parts, opts: ResourceOptions
) -> None:
    base, network, containers = parts.base, parts.base.network, parts.containers
    delivery = Delivery(
        "delivery",
        DeliveryArgs(
            scope=base.scope,
            stack=pulumi.get_stack(),
            connection_arn=given.connection,
            repository=given.repository,
            branch=given.branch,
            artifact_bucket=base.storage.buckets["artifacts"],
            artifact_key_arn=base.keys.storage.arn,
            log_key_arn=base.keys.logs.arn,
            log_days=settings.log_days,
            alerts_topic_arn=base.alerts.topic_arn,
            registry_arn=base.registry.repository_arns[APP_REPOSITORY],
            deployer_role_arn=given.deployer_role,
            backend=given.backend,
            token_secret_arn=given.token_secret,
            approval=given.approval,
            # CodePipeline rolls one service out; others are updated with the stack.
            rollout=next(iter(containers.rollouts.values()), None),
            task_role_arns=containers.role_arns,
            network=BuildNetwork(network.vpc_id, network.private_subnet_ids),
        ),
        # The buckets are named, which says nothing of the order.
        ResourceOptions.merge(opts, ResourceOptions(depends_on=[base.storage])),
    )
    if delivery.security_group_id is not None:
        allow_api(
            "delivery",
            parts.cluster.security_group_id,
            delivery.security_group_id,
            scope=base.scope,
            parent=delivery,
        )


def _backup(settings: CloudSettings, base: Foundation) -> BackupArgs:
    args = BackupArgs(
        scope=base.scope,
        key_arn=base.keys.data.arn,
        alerts_topic_arn=base.alerts.topic_arn,
        protect=settings.protect,
        keep_days=settings.backup.days,
        lock_days=min(settings.storage.lock, settings.backup.days) if settings.protect else 0,
        copy_region=settings.backup.copy_region,
        force_destroy=not settings.protect,
    )
    if settings.schedule is None:
        return args
    # RDS makes no snapshot of an instance that rests.
    hours = settings.schedule
    start, stop = (60 * int(clock[:2]) + int(clock[3:]) for clock in (hours.start, hours.stop))
    hour, minute = divmod((start + stop) // 2, 60)
    return replace(args, schedule=f"cron({minute} {hour} ? * {hours.days} *)", time_zone=hours.time_zone)
