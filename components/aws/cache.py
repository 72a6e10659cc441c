"""Valkey on ElastiCache."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.access import make_access, make_log_group
from components.aws.alerts import Alarm, make_alarm
from components.aws.observability import cache_nodes
from components.aws.scope import Scope
from components.aws.secrets import Rotation, Secret, SecretArgs

_GROUP_LIMIT = 40
_NAME_LIMIT = 255
_METRICS = "AWS/ElastiCache"
_LOGS = {"slow": "slow-log", "engine": "engine-log"}
_OLDEST_MAJOR = 7
_MOST_REPLICAS = 5
_MOST_NODES = 90
_PORT = 6379
_LAG_SECONDS = 30


@dataclass(frozen=True)
class CacheArgs:
    """Size, safety and surroundings of a cache."""

    scope: Scope
    """Names and account."""
    vpc_id: Input[str]
    """VPC of the subnets."""
    subnet_ids: Sequence[Input[str]]
    """Data subnets."""
    client_security_group_ids: Mapping[str, Input[str]]
    """Security groups of those who may connect, by name."""
    key_arn: Input[str]
    """Key of what is written to disk: snapshots, swap, synchronisation."""
    secret_key_arn: Input[str]
    """Key of the auth token's secret."""
    log_key_arn: Input[str]
    """Key of the log groups; its policy must let CloudWatch Logs use it."""
    log_days: int
    """Days for which logs are kept."""
    alerts_topic_arn: Input[str]
    """Topic that hears of alarms."""
    engine_version: str
    """Valkey version, major and minor, such as `8.2`."""
    node_type: str
    """Such as `cache.t4g.micro`."""
    mode: Literal["replication", "cluster"]
    """One shard, or several that share the keys; clients of a cluster must know the protocol."""
    shards: int
    """Shards of a cluster; 1 in mode `replication`."""
    replicas: int
    """Replicas of each shard, 0 to 5. At least one lets the cache survive a node."""
    snapshot_days: int
    """Days for which daily snapshots are kept, 0 to 35; 0 for none."""
    protect: bool
    """Pulumi refuses the deletion and the replacement."""
    multi_az: bool | None = None
    """Keeps replicas in other zones than their primary; as soon as there is a replica, unless given."""
    port: int = _PORT
    """TCP port."""
    rotation: Rotation | None = None
    """What replaces the auth token; None never does."""
    rotation_days: int = 30
    """Days between replacements of the auth token."""
    secret_recovery_days: int = 30
    """Days for which the auth token's deleted secret can be had back."""
    eviction: str = "volatile-lru"
    """What goes when memory is full (`maxmemory-policy`): keys with an expiry, unless given."""
    memory_alarm_percent: int = 80
    """Alarms when a node uses more of its memory."""
    snapshot_window: str = "02:00-03:00"
    """Daily snapshot, UTC; not in the maintenance window."""
    maintenance_window: str = "sun:05:30-sun:06:30"
    """Weekly maintenance, UTC."""
    apply_immediately: bool = False
    """Changes happen at once instead of in the maintenance window."""

    def __post_init__(self) -> None:
        valkey_family(self.engine_version)
        if self.mode not in ("replication", "cluster"):
            raise ValueError(f"mode '{self.mode}': replication or cluster")
        if self.mode == "replication" and self.shards != 1:
            raise ValueError(
                f"shards {self.shards}: mode replication has one shard; take mode cluster for more"
            )
        if not 0 <= self.replicas <= _MOST_REPLICAS:
            raise ValueError(
                f"replicas {self.replicas}: ElastiCache allows 0 to {_MOST_REPLICAS} for each shard"
            )
        nodes = self.shards * (1 + self.replicas)
        if self.shards < 1 or nodes > _MOST_NODES:
            raise ValueError(
                f"shards {self.shards}: at least 1, and at most {_MOST_NODES} nodes, not {nodes}"
            )
        if self.multi_az and not self.replicas:
            raise ValueError("multi_az: needs at least one replica in another zone, and replicas is 0")
        if not 0 <= self.snapshot_days <= 35:
            raise ValueError(f"snapshot_days {self.snapshot_days}: ElastiCache allows 0 to 35")


def valkey_family(engine_version: str) -> str:
    """Family of the parameter groups of a Valkey version, such as `valkey8` of `8.2`.

    Raises:
        ValueError: this is no version of Valkey.
    """
    found = re.fullmatch(r"(\d+)\.\d+", engine_version)
    if found is None or int(found[1]) < _OLDEST_MAJOR:
        raise ValueError(f"engine_version '{engine_version}': Valkey 7.2 or later, such as 8.2")
    return f"valkey{found[1]}"


class Cache(ComponentResource):
    """A Valkey replication group with its auth token, logs and alarms."""

    host: Output[str]
    """Name of the primary; of a cluster, the name where clients begin to ask."""
    port: int
    """TCP port."""
    url: Output[str]
    """Address for the app, without the token; of a cluster, it says so."""
    secret_arn: Output[str]
    """Secret whose text is the auth token."""
    secret_names: list[str]
    """Names of own secrets, for `rotation_statements`."""
    replication_group_id: str
    """Id of the replication group."""
    nodes: list[str]
    """Cache cluster ids of the nodes, as metrics name them."""

    def __init__(self, name: str, args: CacheArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Cache", name, None, opts)
        self._name, self._args, self._scope = name, args, args.scope
        self._child = ResourceOptions(parent=self)
        self.replication_group_id = self._scope.name(name, limit=_GROUP_LIMIT)
        self.port, clustered = args.port, args.mode == "cluster"
        self.nodes = cache_nodes(
            self.replication_group_id, args.shards, args.replicas, cluster_mode=clustered
        )
        self.secret_names = [f"{name}-token"]
        token = Secret(
            self.secret_names[0],
            SecretArgs(
                scope=self._scope,
                key_arn=args.secret_key_arn,
                purpose=f"Auth token of the cache {self.replication_group_id}",
                rotation=args.rotation,
                rotation_days=args.rotation_days,
                recovery_days=args.secret_recovery_days,
                kind="cache",
                target=self.replication_group_id,
            ),
            self._child,
        )
        self.secret_arn = token.arn
        group = self._make_group(token.value)
        self.host = group.configuration_endpoint_address if clustered else group.primary_endpoint_address
        address = Output.format("rediss://{0}:{1}/0", self.host, args.port)
        self.url = Output.concat(address, "?cluster=true") if clustered else address
        self._make_alarms()
        self.register_outputs(
            {"host": self.host, "secret_arn": self.secret_arn, "id": self.replication_group_id}
        )

    def _make_group(self, token: Output[str]) -> aws.elasticache.ReplicationGroup:
        args, group_id = self._args, self.replication_group_id
        access = make_access(
            self._name,
            args.client_security_group_ids,
            {"valkey": args.port},
            scope=self._scope,
            vpc_id=args.vpc_id,
            what="Valkey",
            parent=self,
        )
        subnets_name = self._scope.name(self._name, limit=_NAME_LIMIT)
        subnets = aws.elasticache.SubnetGroup(
            self._name,
            name=subnets_name,
            description="Data subnets",
            subnet_ids=args.subnet_ids,
            tags=self._scope.tags(subnets_name),
            opts=self._child,
        )
        wanted = aws.elasticache.ReplicationGroupArgs(
            description="Prices and other shared state of the trading app",
            replication_group_id=group_id,
            engine="valkey",
            engine_version=args.engine_version,
            node_type=args.node_type,
            port=args.port,
            parameter_group_name=self._make_parameters().name,
            subnet_group_name=subnets.name,
            security_group_ids=[access.id],
            at_rest_encryption_enabled=True,
            kms_key_id=args.key_arn,
            transit_encryption_enabled=True,
            transit_encryption_mode="required",
            auth_token=token,
            # ElastiCache knows no cluster without failover, even where a shard has nobody to fail over to.
            automatic_failover_enabled=args.replicas > 0 or args.mode == "cluster",
            multi_az_enabled=args.replicas > 0 if args.multi_az is None else args.multi_az,
            auto_minor_version_upgrade=True,
            snapshot_retention_limit=args.snapshot_days,
            snapshot_window=args.snapshot_window,
            # Its name is taken after the first time, and a stack that comes and goes is deleted often.
            final_snapshot_identifier=(
                self._scope.name(self._name, "final", limit=_NAME_LIMIT) if args.protect else None
            ),
            maintenance_window=args.maintenance_window,
            apply_immediately=args.apply_immediately,
            log_delivery_configurations=self._make_logs(),
            tags=self._scope.tags(group_id),
        )
        if args.mode == "cluster":
            wanted.num_node_groups, wanted.replicas_per_node_group = args.shards, args.replicas
        else:
            wanted.num_cache_clusters = 1 + args.replicas
        return aws.elasticache.ReplicationGroup(
            self._name, wanted, opts=ResourceOptions(parent=self, protect=args.protect)
        )

    def _make_parameters(self) -> aws.elasticache.ParameterGroup:
        args, family = self._args, valkey_family(self._args.engine_version)
        parameters = {"maxmemory-policy": args.eviction}
        if args.mode == "cluster":
            parameters["cluster-enabled"] = "yes"
        # The nodes move from one group to another when the major version changes, so both must exist.
        name = self._scope.name(self._name, family, args.mode, limit=_NAME_LIMIT)
        return aws.elasticache.ParameterGroup(
            self._name,
            name=name,
            family=family,
            description=f"{family}, {args.mode}",
            parameters=[{"name": key, "value": value} for key, value in parameters.items()],
            tags=self._scope.tags(name),
            opts=self._child,
        )

    def _make_logs(self) -> list[aws.elasticache.ReplicationGroupLogDeliveryConfigurationArgs]:
        found = []
        for key, kind in _LOGS.items():
            # Below this path CloudWatch needs no statement for each group in its resource policy, whose
            # size is limited.
            path = f"/aws/vendedlogs/elasticache/{self.replication_group_id}/{key}"
            group = make_log_group(
                f"{self._name}-{key}",
                path,
                scope=self._scope,
                key_arn=self._args.log_key_arn,
                days=self._args.log_days,
                parent=self,
            )
            found.append(
                aws.elasticache.ReplicationGroupLogDeliveryConfigurationArgs(
                    destination=group.name,
                    destination_type="cloudwatch-logs",
                    log_format="json",
                    log_type=kind,
                )
            )
        return found

    def _make_alarms(self) -> None:
        args = self._args
        for node in self.nodes:
            which, suffix = {"CacheClusterId": node}, node.removeprefix(f"{self.replication_group_id}-")
            alarms = {
                "cpu": (
                    Alarm(_METRICS, "EngineCPUUtilization", which, above=80),
                    "uses more than 80 % of the one CPU that answers requests",
                ),
                "memory": (
                    Alarm(_METRICS, "DatabaseMemoryUsagePercentage", which, above=args.memory_alarm_percent),
                    f"uses more than {args.memory_alarm_percent} % of its memory",
                ),
            }
            if args.replicas:
                alarms["lag"] = (
                    Alarm(_METRICS, "ReplicationLag", which, above=_LAG_SECONDS),
                    f"is more than {_LAG_SECONDS} s behind its primary",
                )
            for key, (alarm, words) in alarms.items():
                make_alarm(
                    f"{self._name}-{suffix}-{key}",
                    alarm,
                    scope=self._scope,
                    topic_arn=args.alerts_topic_arn,
                    what=f"The cache node {node} {words}",
                    parent=self,
                )
