"""What everything else on AWS stands on: keys, alerts, buckets, network, image repositories."""

from dataclasses import dataclass

from pulumi import ResourceOptions

from components.aws.alerts import Alerts, AlertsArgs
from components.aws.encryption import Key, KeyArgs
from components.aws.network import Network, NetworkArgs
from components.aws.registry import Registry, RegistryArgs
from components.aws.scope import Scope
from components.aws.storage import BucketSpec, Storage, StorageArgs
from infra.settings import CloudSettings

APP_REPOSITORY = "app"
"""Repository of the app's image."""

_KEPT_IMAGES = 50
_INFREQUENT_DAYS = 30
_ARTIFACT_DAYS = 30


@dataclass(frozen=True)
class Keys:
    """Customer keys, one for each class of data."""

    data: Key
    """Database, cache, brokers, analytics, their backups."""
    cluster: Key
    """Secrets of Kubernetes and volumes of nodes."""
    storage: Key
    """Buckets and images."""
    messaging: Key
    """Queues and topics."""
    logs: Key
    """Log groups and the audit trail."""
    secrets: Key
    """Secrets Manager and the environment of functions."""


@dataclass(frozen=True)
class Foundation:
    """Made first; everything else refers to it."""

    scope: Scope
    keys: Keys
    alerts: Alerts
    network: Network
    storage: Storage
    registry: Registry


def make_foundation(settings: CloudSettings, scope: Scope, opts: ResourceOptions) -> Foundation:
    """Keys, alerts, network, buckets and repositories of the stack."""
    keys = _keys(settings, scope, opts)
    alerts = Alerts("alerts", AlertsArgs(scope, keys.messaging.arn, settings.alert_emails), opts)
    network = Network(
        "network",
        NetworkArgs(
            scope=scope,
            cidr=settings.network.cidr,
            zones=settings.network.zones,
            nat_per_zone=settings.network.nat_per_zone,
            interface_endpoints=settings.network.interface_endpoints,
            log_key_arn=keys.logs.arn,
            flow_log_days=settings.network.flow_log_days,
        ),
        opts,
    )
    storage = Storage(
        "storage",
        StorageArgs(
            scope=scope,
            key_arn=keys.storage.arn,
            buckets=_buckets(settings),
            protect=settings.protect,
            force_destroy=not settings.protect,
        ),
        opts,
    )
    registry = Registry(
        "registry",
        RegistryArgs(
            scope=scope,
            key_arn=keys.storage.arn,
            repositories=(APP_REPOSITORY,),
            keep_images=_KEPT_IMAGES,
            protect=settings.protect,
        ),
        opts,
    )
    return Foundation(scope, keys, alerts, network, storage, registry)


def _keys(settings: CloudSettings, scope: Scope, opts: ResourceOptions) -> Keys:
    def key(name: str, purpose: str, *services: str) -> Key:
        return Key(name, KeyArgs(scope, purpose, services, protect=settings.protect), opts)

    return Keys(
        data=key("data", "Databases, caches, brokers and streams"),
        cluster=key("cluster", "Secrets of Kubernetes and volumes of nodes"),
        storage=key("storage", "Buckets and images", "delivery.logs.amazonaws.com"),
        messaging=key(
            "messaging",
            "Queues and topics",
            "sns.amazonaws.com",
            "s3.amazonaws.com",
            "cloudwatch.amazonaws.com",
            "events.amazonaws.com",
            "budgets.amazonaws.com",
            "backup.amazonaws.com",
            "costalerts.amazonaws.com",
            "codestar-notifications.amazonaws.com",
            "events.rds.amazonaws.com",
        ),
        logs=key(
            "logs",
            "Log groups and the audit trail",
            f"logs.{scope.region}.amazonaws.com",
            "cloudtrail.amazonaws.com",
        ),
        secrets=key("secrets", "Secrets and the environment of functions"),
    )


def _buckets(settings: CloudSettings) -> tuple[BucketSpec, ...]:
    given = settings.storage
    return (
        BucketSpec("reports", infrequent_days=_INFREQUENT_DAYS, glacier_days=given.archive_after),
        BucketSpec("kyc", confidential=True),
        BucketSpec("archive", infrequent_days=_INFREQUENT_DAYS, glacier_days=given.archive_after),
        BucketSpec("artifacts", expire_days=_ARTIFACT_DAYS),
        BucketSpec("backups", lock_days=given.lock, expire_days=max(given.lock, settings.backup.days) + 1),
        BucketSpec("logs", expire_days=given.logs, receives_logs=True),
    )
