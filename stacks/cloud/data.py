"""Managed data services and where the app finds them."""

from collections.abc import Mapping
from dataclasses import dataclass

from pulumi import Input, Output, ResourceOptions

from app.roles import Need
from components.aws.cache import Cache, CacheArgs
from components.aws.computed import computed
from components.aws.database import Database, DatabaseArgs
from components.aws.secrets import Rotation, Secrets, SecretsArgs
from components.aws.streaming import Streaming, StreamingArgs
from components.kubernetes.network_policy import Allow, Network
from infra.settings import CloudSettings
from infra.settings.cloud import BROKER_ZONES
from stacks.base import APP_KEYS
from stacks.cloud.foundation import Foundation
from stacks.cloud.services import CACHE

DATABASE_PORT = 5433
"""Not PostgreSQL's usual one (security assertion 27, RDS.23)."""


@dataclass(frozen=True)
class DataServices:
    """PostgreSQL, Valkey and Kafka, managed by AWS."""

    database: Database
    cache: Cache
    streaming: Streaming
    peers: Mapping[Need, list[Allow]]
    """Where pods may connect to for each need."""

    @property
    def urls(self) -> dict[Need, Input[str]]:
        """What the app connects to, without passwords."""
        return {
            Need.DATABASE: self.database.url,
            Need.CACHE: self.cache.url,
            Need.BUS: self.streaming.bus_url,
        }

    @property
    def addresses(self) -> dict[Need, Input[str]]:
        """`host:port` of each, to be waited for."""
        return {
            Need.DATABASE: Output.concat(self.database.host, f":{self.database.port}"),
            Need.CACHE: Output.concat(self.cache.host, f":{self.cache.port}"),
            Need.BUS: computed(self.streaming.bootstrap_brokers, lambda found: found.split(",")[0]),
        }


def make_data_services(
    settings: CloudSettings,
    base: Foundation,
    clients: Mapping[str, Input[str]],
    rotation: Rotation,
    opts: ResourceOptions,
) -> DataServices:
    """The data services, open to the security groups `clients`, by a name for each."""
    scope, network, keys = base.scope, base.network, base.keys
    database = Database(
        "database",
        DatabaseArgs(
            scope=scope,
            vpc_id=network.vpc_id,
            subnet_ids=network.data_subnet_ids,
            client_security_group_ids=clients,
            key_arn=keys.data.arn,
            secret_key_arn=keys.secrets.arn,
            log_key_arn=keys.logs.arn,
            log_days=settings.log_days,
            alerts_topic_arn=base.alerts.topic_arn,
            engine_version=settings.database.engine_version,
            instance_class=settings.database.instance_class,
            storage_gib=settings.database.storage,
            max_storage_gib=settings.database.max_storage,
            multi_az=settings.database.multi_az,
            read_replicas=settings.database.read_replicas,
            backup_days=settings.database.backup_days,
            port=DATABASE_PORT,
            client_cidrs={f"network-{cidr}": cidr for cidr in settings.database.allowed_networks},
            rotation=rotation,
            rotation_days=settings.rotation_days,
            secret_recovery_days=_recovery_days(settings),
            deletion_protection=settings.protect,
            protect=settings.protect,
        ),
        opts,
    )
    cache = Cache(
        CACHE,
        CacheArgs(
            scope=scope,
            vpc_id=network.vpc_id,
            subnet_ids=network.data_subnet_ids,
            client_security_group_ids=clients,
            key_arn=keys.data.arn,
            secret_key_arn=keys.secrets.arn,
            log_key_arn=keys.logs.arn,
            log_days=settings.log_days,
            alerts_topic_arn=base.alerts.topic_arn,
            engine_version=settings.cache.engine_version,
            node_type=settings.cache.node_type,
            mode=settings.cache.mode,
            shards=settings.cache.shards,
            replicas=settings.cache.replicas,
            snapshot_days=settings.cache.snapshot_days,
            rotation=rotation,
            rotation_days=settings.rotation_days,
            secret_recovery_days=_recovery_days(settings),
            protect=settings.protect,
        ),
        opts,
    )
    streaming = Streaming(
        "streaming",
        StreamingArgs(
            scope=scope,
            vpc_id=network.vpc_id,
            subnet_ids=network.data_subnet_ids[:BROKER_ZONES],
            client_security_group_ids=clients,
            key_arn=keys.data.arn,
            log_key_arn=keys.logs.arn,
            log_days=settings.log_days,
            alerts_topic_arn=base.alerts.topic_arn,
            kafka_version=settings.streaming.kafka_version,
            broker_type=settings.streaming.broker_type,
            brokers=settings.streaming.brokers,
            storage_gib=settings.streaming.storage,
            replication_factor=settings.streaming.replication_factor,
            min_insync=settings.streaming.min_insync,
            protect=settings.protect,
        ),
        opts,
    )
    ports = {Need.DATABASE: database.port, Need.CACHE: cache.port, Need.BUS: streaming.port}
    peers = {
        need: [Allow(Network(cidr), port) for cidr in network.data_cidrs] for need, port in ports.items()
    }
    return DataServices(database, cache, streaming, peers)


def make_app_keys(
    settings: CloudSettings, base: Foundation, rotation: Rotation, opts: ResourceOptions
) -> Secrets:
    """The random texts that only the app knows, one secret for each of APP_KEYS."""
    return Secrets(
        "app",
        SecretsArgs(
            scope=base.scope,
            key_arn=base.keys.secrets.arn,
            # What is encrypted once stays so: an earlier key is needed for as long as there is data.
            kinds={name: "growing" if name == "auth-encryption-key" else "rolling" for name in APP_KEYS},
            rotation_days=settings.rotation_days,
            rotation=rotation,
            recovery_days=_recovery_days(settings),
        ),
        opts,
    )


def _recovery_days(settings: CloudSettings) -> int:
    """A deleted secret keeps its name for so long; a stack that comes and goes needs it at once."""
    return 30 if settings.protect else 0
