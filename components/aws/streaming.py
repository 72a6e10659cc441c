"""Kafka on MSK."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.access import add_rules, make_access, make_log_group
from components.aws.alerts import Alarm, make_alarm
from components.aws.scope import Scope

_NAME_LIMIT = 64
_METRICS = "AWS/Kafka"
_IAM_PORT = 9098
_EXPORTER_PORTS = {"jmx-exporter": 11001, "node-exporter": 11002}
_VERSION = re.compile(r"\d+\.\d+\.x\.kraft")
_ZONES = (2, 3)
_STORAGE_TARGET_PERCENT = 70
_DISK_ALARM_PERCENT = 85
_MONITORING = ("DEFAULT", "PER_BROKER", "PER_TOPIC_PER_BROKER", "PER_TOPIC_PER_PARTITION")


@dataclass(frozen=True)
class StreamingArgs:
    """Size, safety and surroundings of a Kafka cluster."""

    scope: Scope
    """Names and account."""
    vpc_id: Input[str]
    """VPC of the subnets."""
    subnet_ids: Sequence[Input[str]]
    """Data subnets, one in each of two or three zones."""
    client_security_group_ids: Mapping[str, Input[str]]
    """Security groups of producers and consumers, by name."""
    key_arn: Input[str]
    """Key of the brokers' volumes."""
    log_key_arn: Input[str]
    """Key of the log group; its policy must let CloudWatch Logs use it."""
    log_days: int
    """Days for which logs are kept."""
    alerts_topic_arn: Input[str]
    """Topic that hears of alarms."""
    kafka_version: str
    """Version as MSK names it, with KRaft instead of ZooKeeper, such as `4.1.x.kraft`."""
    broker_type: str
    """Such as `kafka.m7g.large`; `kafka.t3.small` takes only 4 new IAM connections a second."""
    brokers: int
    """Brokers, the same number in each zone; it can be raised, never lowered."""
    storage_gib: int
    """GiB of each broker, 1 to 16384; it can be raised, never lowered."""
    protect: bool
    """Pulumi refuses the deletion and the replacement."""
    replication_factor: int = 3
    """Copies of every partition, at most one on each broker."""
    min_insync: int = 2
    """Copies that must have a record before it is acknowledged; below `replication_factor`."""
    max_storage_gib: int = 0
    """GiB up to which each broker's storage grows by itself, from 70 % of use on; 0 for not at all."""
    metrics_security_group_ids: Mapping[str, Input[str]] = field(default_factory=dict)
    """Security groups of Prometheus servers that read the brokers' exporters, by name."""
    retention_hours: int = 168
    """Hours that records of a topic are kept for which the topic itself says nothing."""
    partitions: int = 3
    """Partitions of a topic that says nothing itself."""
    enhanced_monitoring: str = "PER_BROKER"
    """Metrics in CloudWatch; below `PER_BROKER` nobody hears of partitions that lag behind."""

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.kafka_version):
            raise ValueError(
                f"kafka_version '{self.kafka_version}': a version with KRaft, such as 4.1.x.kraft"
            )
        if len(self.subnet_ids) not in _ZONES:
            raise ValueError(
                f"subnet_ids: {len(self.subnet_ids)} of them; MSK takes one in two or three zones"
            )
        if self.brokers < 1 or self.brokers % len(self.subnet_ids):
            raise ValueError(f"brokers {self.brokers}: a multiple of the {len(self.subnet_ids)} zones")
        if not 1 <= self.min_insync < self.replication_factor <= self.brokers:
            raise ValueError(
                f"replication_factor {self.replication_factor}: above min_insync ({self.min_insync}) and at "
                f"most brokers ({self.brokers})"
            )
        if not 1 <= self.storage_gib <= 16384:
            raise ValueError(f"storage_gib {self.storage_gib}: MSK allows 1 to 16384 for each broker")
        if self.max_storage_gib and not self.storage_gib < self.max_storage_gib <= 16384:
            raise ValueError(
                f"max_storage_gib {self.max_storage_gib}: 0, or more than storage_gib and at most 16384"
            )
        if self.enhanced_monitoring not in _MONITORING:
            raise ValueError(
                f"enhanced_monitoring '{self.enhanced_monitoring}': one of {', '.join(_MONITORING)}"
            )


class Streaming(ComponentResource):
    """An MSK cluster that clients enter with their AWS role and nobody enters without.

    Topics are not made here: the app's `topics` task makes them, from inside the network.
    """

    bootstrap_brokers: Output[str]
    """Addresses `host:9098`, separated by commas; TLS with IAM."""
    bus_url: Output[str]
    """The same as the app's APP_BUS_URL."""
    cluster_arn: Output[str]
    """ARN of the cluster."""
    cluster_name: str
    """Name of the cluster."""
    port: int
    """TCP port of the brokers: TLS with IAM."""

    def __init__(self, name: str, args: StreamingArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Streaming", name, None, opts)
        self._name, self._args, self._scope = name, args, args.scope
        self._child = ResourceOptions(parent=self)
        self.cluster_name, self.port = self._scope.name(name, limit=_NAME_LIMIT), _IAM_PORT
        cluster = self._make_cluster()
        self.cluster_arn = cluster.arn
        self.bootstrap_brokers = cluster.bootstrap_brokers_sasl_iam
        self.bus_url = Output.format("kafka://{0}", self.bootstrap_brokers)
        if args.max_storage_gib:
            self._grow(cluster)
        self._make_alarms()
        self.register_outputs(
            {
                "bootstrap_brokers": self.bootstrap_brokers,
                "cluster_arn": self.cluster_arn,
                "cluster_name": self.cluster_name,
            }
        )

    def topic_arn(self, topic: str) -> Output[str]:
        """ARN of a topic, or of several by `*`, for IAM statements."""
        return self._arn("topic", topic)

    def group_arn(self, group: str) -> Output[str]:
        """ARN of a consumer group, or of several by `*`, for IAM statements."""
        return self._arn("group", group)

    def _arn(self, kind: str, name: str) -> Output[str]:
        return self.cluster_arn.apply(lambda arn: resource_arn(arn, kind, name))

    def _make_cluster(self) -> aws.msk.Cluster:
        args = self._args
        access = make_access(
            self._name,
            args.client_security_group_ids,
            {"kafka-iam": _IAM_PORT},
            scope=self._scope,
            vpc_id=args.vpc_id,
            what="Kafka",
            parent=self,
        )
        for client, group_id in args.metrics_security_group_ids.items():
            add_rules(
                f"{self._name}-metrics",
                access,
                client,
                group_id,
                _EXPORTER_PORTS,
                scope=self._scope,
                parent=self,
            )
        configuration = aws.msk.Configuration(
            self._name,
            name=self._scope.name(self._name, limit=_NAME_LIMIT),
            description="Nothing that was confirmed is lost",
            server_properties=server_properties(
                args.replication_factor, args.min_insync, args.partitions, args.retention_hours
            ),
            opts=self._child,
        )
        logs = make_log_group(
            self._name,
            # Below this path CloudWatch needs no statement for the group in its resource policy.
            f"/aws/vendedlogs/msk/{self.cluster_name}",
            scope=self._scope,
            key_arn=args.log_key_arn,
            days=args.log_days,
            parent=self,
        )
        # What grew by itself must not shrink again, which MSK would refuse anyway.
        grows = (
            ["brokerNodeGroupInfo.storageInfo.ebsStorageInfo.volumeSize"] if args.max_storage_gib else None
        )
        return aws.msk.Cluster(
            self._name,
            cluster_name=self.cluster_name,
            kafka_version=args.kafka_version,
            number_of_broker_nodes=args.brokers,
            broker_node_group_info={
                "instance_type": args.broker_type,
                "client_subnets": list(args.subnet_ids),
                "security_groups": [access.id],
                "connectivity_info": {"public_access": {"type": "DISABLED"}},
                "storage_info": {"ebs_storage_info": {"volume_size": args.storage_gib}},
            },
            client_authentication={"sasl": {"iam": True}, "unauthenticated": False},
            encryption_info={
                "encryption_at_rest_kms_key_arn": args.key_arn,
                "encryption_in_transit": {"client_broker": "TLS", "in_cluster": True},
            },
            configuration_info={"arn": configuration.arn, "revision": configuration.latest_revision},
            enhanced_monitoring=args.enhanced_monitoring,
            open_monitoring={
                "prometheus": {
                    "jmx_exporter": {"enabled_in_broker": True},
                    "node_exporter": {"enabled_in_broker": True},
                }
            },
            logging_info={"broker_logs": {"cloudwatch_logs": {"enabled": True, "log_group": logs.name}}},
            tags=self._scope.tags(self.cluster_name),
            opts=ResourceOptions(parent=self, protect=args.protect, ignore_changes=grows),
        )

    def _grow(self, cluster: aws.msk.Cluster) -> None:
        dimension, namespace = "kafka:broker-storage:VolumeSize", "kafka"
        target = aws.appautoscaling.Target(
            self._name,
            service_namespace=namespace,
            scalable_dimension=dimension,
            resource_id=cluster.arn,
            min_capacity=1,
            max_capacity=self._args.max_storage_gib,
            tags=self._scope.tags(self.cluster_name),
            opts=self._child,
        )
        aws.appautoscaling.Policy(
            self._name,
            name=self._scope.name(self._name, "storage", limit=255),
            policy_type="TargetTrackingScaling",
            service_namespace=namespace,
            scalable_dimension=dimension,
            resource_id=target.resource_id,
            target_tracking_scaling_policy_configuration={
                "predefined_metric_specification": {
                    "predefined_metric_type": "KafkaBrokerStorageUtilization"
                },
                "target_value": _STORAGE_TARGET_PERCENT,
                "disable_scale_in": True,
            },
            opts=self._child,
        )

    def _make_alarms(self) -> None:
        cluster = {"Cluster Name": self.cluster_name}
        alarms = {
            "offline-partitions": (
                Alarm(_METRICS, "OfflinePartitionsCount", cluster, above=0, statistic="Maximum", periods=2),
                "has partitions that no broker serves",
            ),
            "no-controller": (
                Alarm(_METRICS, "ActiveControllerCount", cluster, below=1, statistic="Maximum"),
                "has no active controller",
            ),
        }
        for broker in range(1, self._args.brokers + 1):
            which = {**cluster, "Broker ID": str(broker)}
            alarms[f"{broker}-disk"] = (
                Alarm(_METRICS, "KafkaDataLogsDiskUsed", which, above=_DISK_ALARM_PERCENT),
                f"uses more than {_DISK_ALARM_PERCENT} % of the storage of broker {broker}",
            )
            if self._args.enhanced_monitoring != "DEFAULT":
                alarms[f"{broker}-lagging-partitions"] = (
                    Alarm(_METRICS, "UnderReplicatedPartitions", which, above=0, statistic="Maximum"),
                    f"has partitions on broker {broker} whose copies are not in step",
                )
        for key, (alarm, words) in alarms.items():
            make_alarm(
                f"{self._name}-{key}",
                alarm,
                scope=self._scope,
                topic_arn=self._args.alerts_topic_arn,
                what=f"The Kafka cluster {self.cluster_name} {words}",
                parent=self,
            )


def server_properties(copies: int, in_step: int, partitions: int, retention_hours: int) -> str:
    """Kafka's settings; `in_step` of the `copies` must have a record before it is acknowledged."""
    properties = {
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "log.retention.hours": retention_hours,
        "min.insync.replicas": in_step,
        "num.partitions": partitions,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.min.isr": in_step,
        "transaction.state.log.replication.factor": copies,
        "unclean.leader.election.enable": "false",
    }
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def resource_arn(cluster_arn: str, kind: str, name: str) -> str:
    """ARN of a `topic` or a `group` of a cluster, whose ARN ends in its name and a UUID.

    Raises:
        ValueError: `cluster_arn` is no ARN of a cluster.
    """
    before, found, rest = cluster_arn.partition(":cluster/")
    if not found:
        raise ValueError(f"'{cluster_arn}' is no ARN of an MSK cluster")
    return f"{before}:{kind}/{rest}/{name}"
