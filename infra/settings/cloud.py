"""What the file of a stack on AWS may say. Defaults here are the one table of what stacks have in common."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from infra.settings import sizes
from infra.settings.model import EdgeSettings, EnvoySettings, Section, StackSettings, Text, one_of
from infra.settings.quantities import (
    Cidr,
    Clock,
    TimeZone,
    Weekdays,
    matching,
    one_number_of,
    refuse,
    whole,
)

Account = Annotated[str, matching(r"\d{12}", "an AWS account of twelve digits, in quotes")]
AddonVersion = Annotated[
    str, matching(r"v\d+\.\d+\.\d+-eksbuild\.\d+", "an add-on version such as v1.13.2-eksbuild.31")
]
Arn = Annotated[str, matching(r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:\d{0,12}:.+", "an ARN")]
Digest = Annotated[str, matching(r"sha256:[0-9a-f]{64}", "an image digest: sha256: and 64 hex digits")]
Domain = Annotated[
    str, matching(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", "a domain such as trading.example.com")
]
Email = Annotated[str, matching(r"[^@\s]+@[^@\s]+\.[^@\s]+", "an e-mail address")]
HostedZone = Annotated[
    str, matching(r"Z[A-Z0-9]{7,31}", "the id of a Route 53 hosted zone, such as Z0ABCDEFGHIJ")
]
Phone = Annotated[str, matching(r"\+[1-9]\d{6,14}", "a phone number in E.164 form, such as +15550100")]
PoolName = Annotated[
    str, matching(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?", "a name of up to 20 letters, digits and '-'")
]
Region = Annotated[str, matching(r"[a-z]{2}(-[a-z]+)+-\d", "an AWS region such as us-east-1")]
Repository = Annotated[str, matching(r"[\w.-]+/[\w.-]+", "a repository as owner/name")]
RuleId = Annotated[str, matching(r"TS\d{3}", "the id of an assertion, such as TS017")]
Zone = Annotated[str, matching(r"[a-z]{2}(-[a-z]+)+-\d[a-z]", "an availability zone such as us-east-1a")]
Days = Annotated[int, whole(1, 3650, "a number of days")]
LogDays = Annotated[
    int, one_number_of((1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827))
]
"""Retention periods of CloudWatch Logs."""

INTERFACE_ENDPOINTS = ("ecr.api", "ecr.dkr", "logs", "secretsmanager", "ssm", "sts")
"""Services that pods and nodes reach without leaving the network (security assertion 14, EC2.10)."""


BROKER_ZONES = 3
"""Zones over which MSK spreads brokers; it takes two or three."""

ADDONS = {
    "amazon-cloudwatch-observability": "v6.4.0-eksbuild.1",
    "aws-ebs-csi-driver": "v1.66.0-eksbuild.1",
    "coredns": "v1.13.2-eksbuild.31",
    "eks-pod-identity-agent": "v1.3.10-eksbuild.3",
    "kube-proxy": "v1.35.3-eksbuild.29",
    "metrics-server": "v0.9.0-eksbuild.6",
    "vpc-cni": "v1.22.4-eksbuild.3",
}
"""EKS add-ons and their versions for Kubernetes 1.35; `aws eks describe-addon-versions` tells newer ones."""

AddonName = Annotated[str, one_of(tuple(ADDONS))]


class ImageSettings(Section):
    """The app's image; `tradestack images publish` writes this."""

    digest: Digest
    """Digest of the image in the stack's repository."""


class NetworkSettings(Section):
    """The VPC."""

    cidr: Cidr = "10.0.0.0/16"
    """Address range; a /16 leaves room for six zones."""
    zones: tuple[Zone, ...]
    """Availability zones, in an order that never changes; new ones are appended."""
    nat_per_zone: bool = False
    """One NAT gateway for each zone rather than one for all."""
    interface_endpoints: tuple[Text, ...] = INTERFACE_ENDPOINTS
    flow_log_days: LogDays = 30


class NodeGroupSettings(Section):
    """One managed node group."""

    instance_types: tuple[Annotated[str, one_of(sizes.EC2)], ...]
    """Alternatives of equal size, best first."""
    spot: bool = False
    minimum: Annotated[int, whole(0, 100)] = 1
    maximum: Annotated[int, whole(1, 100)] = 3
    disk: Annotated[int, whole(20, 1000, "a number of GiB")] = 50
    """Root volume in GiB."""
    dedicated: bool = False
    """Taints the nodes with `dedicated=<name>`, so that only pods that ask for them run there."""


class ClusterSettings(Section):
    """EKS."""

    version: Annotated[str, one_of(("1.35", "1.36"))] = "1.35"
    """Kubernetes version, in standard support."""
    service_cidr: Cidr = "172.20.0.0/16"
    """Addresses of Services inside the cluster."""
    public_access: tuple[Cidr, ...] = ()
    """Networks that may reach the API server from outside; none keeps it private."""
    admins: dict[PoolName, Arn] = Field(default_factory=dict)
    """IAM roles with the cluster's administration, by name."""
    addons: Annotated[dict[AddonName, AddonVersion], AfterValidator(lambda given: ADDONS | given)] = Field(
        default_factory=lambda: dict(ADDONS)
    )
    """Version of each EKS add-on; those that the stack file leaves out keep their default."""
    node_groups: dict[PoolName, NodeGroupSettings]


class DatabaseSettings(Section):
    """RDS for PostgreSQL."""

    engine_version: Annotated[
        str, matching(r"1[5-9](\.\d{1,2})?", "a PostgreSQL version such as 17 or 17.6")
    ] = "17"
    instance_class: Annotated[str, one_of(sizes.DATABASE)]
    storage: Annotated[int, whole(20, 65536, "a number of GiB")] = 50
    """Allocated storage in GiB."""
    max_storage: Annotated[int, whole(20, 65536, "a number of GiB")] = 200
    """Storage grows by itself up to this, in GiB."""
    multi_az: bool = True
    read_replicas: Annotated[int, whole(0, 5)] = 0
    backup_days: Annotated[int, whole(7, 35, "a number of days")] = 7
    """Days to which the database can be restored to any second."""
    allowed_networks: tuple[Cidr, ...] = ()
    """Private networks beside the cluster that may connect."""


class CacheSettings(Section):
    """ElastiCache for Valkey."""

    engine_version: Annotated[str, one_of(("7.2", "8.0", "8.1", "8.2"))] = "8.2"
    node_type: Annotated[str, one_of(sizes.CACHE)]
    mode: Literal["replication", "cluster"] = "replication"
    shards: Annotated[int, whole(1, 90)] = 1
    replicas: Annotated[int, whole(0, 5)] = 1
    """Replicas of each shard."""
    snapshot_days: Annotated[int, whole(7, 35, "a number of days")] = 7


class StreamingSettings(Section):
    """MSK."""

    kafka_version: Annotated[
        str, matching(r"[34]\.\d+\.x\.kraft", "a Kafka version in KRaft mode such as 4.1.x.kraft")
    ] = "4.1.x.kraft"
    broker_type: Annotated[str, one_of(sizes.BROKER)]
    brokers: Annotated[int, whole(3, 30)] = 3
    storage: Annotated[int, whole(10, 16384, "a number of GiB")] = 50
    """Volume of each broker in GiB."""
    replication_factor: Annotated[int, whole(2, 5)] = 3
    min_insync: Annotated[int, whole(1, 4)] = 2


class StorageSettings(Section):
    """S3."""

    archive_after: Annotated[int, whole(31, 3650, "a number of days")] = 90
    """Days after which archived data moves to a colder class."""
    lock: Annotated[int, whole(1, 365, "a number of days")] = 7
    """Days for which a backup cannot be deleted by anyone."""
    logs: Days = 365
    """Days for which access logs are kept."""


class MessagingSettings(Section):
    """Who hears of what is fanned out, beside the queues."""

    emails: tuple[Email, ...] = ()
    phones: tuple[Phone, ...] = ()


class AnalyticsSettings(Section):
    """Kinesis."""

    shards: Annotated[int, whole(0, 200)] = 0
    """Shards of the stream; 0 bills on demand."""
    retention: Annotated[int, whole(24, 8760, "a number of hours")] = 24
    """Hours for which records can be read again."""


class ContainersSettings(Section):
    """ECS."""

    minimum: Annotated[int, whole(1, 50)] = 1
    maximum: Annotated[int, whole(1, 50)] = 2


class CloudEdgeSettings(EdgeSettings):
    """What the internet meets first: firewall and load balancer, then Envoy."""

    replicas: EnvoySettings = EnvoySettings.model_validate({"minimum": 2, "maximum": 6})
    requests_per_address: Annotated[int, whole(100, 2_000_000)] = 30_000
    """Requests of one address in five minutes before it is blocked; 100 a second (seed 000, section 6)."""


class BackupSettings(Section):
    """AWS Backup."""

    days: Annotated[int, whole(7, 3650, "a number of days")] = 30
    copy_region: Region | None = None
    """Region of a second copy."""


class DeliverySettings(Section):
    """The pipeline that builds and rolls out the app's image."""

    connection: Arn
    """CodeConnections connection to the repository's host."""
    repository: Repository
    branch: Text = "main"
    deployer_role: Arn
    """Role that may change the stack; made beforehand, outside the stack."""
    backend: Text = "https://api.pulumi.com"
    """Where the engine keeps the stack's state."""
    token_secret: Arn | None = None
    """Secret with the access token of that backend, as plain text; none where it wants none."""
    approval: bool = False
    """A person must approve before the rollout."""


class ScheduleSettings(Section):
    """Hours in which the stack is needed; nodes and database rest at other times."""

    start: Clock = "07:00"
    stop: Clock = "20:00"
    days: Weekdays = "MON-FRI"
    time_zone: TimeZone = "America/New_York"


def _reason(value: object) -> str:
    if not isinstance(value, str) or len(value.split()) < 4:
        raise refuse("a reason in words, at least four of them")
    return value


def _amount(value: float) -> float:
    if not 0 <= value < 1e12:
        raise refuse("a number that is not negative")
    return value


class CloudSettings(StackSettings):
    """A stack on AWS."""

    platform: Literal["aws"]
    environment: Literal["development", "staging", "production"]
    """What the stack is for; production refuses what would be dangerous there."""
    account: Account = Field(examples=["123456789012"])
    """Account that the stack belongs to; the provider refuses every other."""
    region: Region = Field(examples=["us-east-1"])
    owner: Email = Field(examples=["platform@example.com"])
    """Who answers for the cost; a tag of every resource."""
    domain: Domain = Field(examples=["trading.example.com"])
    """Host name of the public entry."""
    hosted_zone: HostedZone = Field(examples=["Z0123456789ABCDEFGHI"])
    """Route 53 zone that the domain is in."""
    alert_emails: tuple[Email, ...] = Field(examples=[("operations@example.com",)])
    """Who hears of alarms and of the budget."""
    budget: Annotated[int, whole(1, 10_000_000, "a whole number of USD")] = Field(examples=[500])
    """Monthly cost in USD at which alerts go out."""
    unusual_cost: Annotated[int, whole(0, 1_000_000, "a whole number of USD")] = 50
    """Unusual cost in USD from which on alerts go out; 0 for none, as in an account that another one
    pays for: only the paying one may watch the costs of a tag."""
    foundation_only: bool = False
    """First phase of a new stack: keys, network, buckets and the repository, until there is an image."""
    protect: bool = True
    """Refuses the deletion of what holds data, by AWS and by Pulumi."""
    log_days: LogDays = 30
    """Days for which logs are kept (requirement C11)."""
    rotation_days: Annotated[int, whole(1, 365, "a number of days")] = 30
    """Days after which generated secrets are replaced."""
    doubles: bool = False
    """Doubles stand in for services outside: messages are logged rather than sent (seed 004, staging)."""
    schedule: ScheduleSettings | None = None
    relax: dict[RuleId, Annotated[str, BeforeValidator(_reason)]] = Field(default_factory=dict)
    """Security assertions that this stack does without, each with the reason."""
    usage: dict[Text, Annotated[float, AfterValidator(_amount)]] = Field(default_factory=dict)
    """Assumptions of the cost estimate that this stack knows better, by name."""
    image: ImageSettings = Field(examples=[{"digest": "sha256:" + 64 * "0"}])
    network: NetworkSettings = Field(examples=[{"zones": ["us-east-1a", "us-east-1b", "us-east-1c"]}])
    cluster: ClusterSettings = Field(
        examples=[{"nodeGroups": {"general": {"instanceTypes": ["m7i.large"], "minimum": 3}}}]
    )
    database: DatabaseSettings = Field(examples=[{"instanceClass": "db.t4g.medium"}])
    cache: CacheSettings = Field(examples=[{"nodeType": "cache.t4g.micro"}])
    streaming: StreamingSettings = Field(examples=[{"brokerType": "kafka.t3.small"}])
    storage: StorageSettings = StorageSettings()
    messaging: MessagingSettings = MessagingSettings()
    analytics: AnalyticsSettings = AnalyticsSettings()
    containers: ContainersSettings = ContainersSettings()
    edge: CloudEdgeSettings = CloudEdgeSettings()
    backup: BackupSettings = BackupSettings()
    delivery: DeliverySettings | None = None
