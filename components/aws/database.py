"""PostgreSQL on RDS."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.access import add_network, make_access, make_log_group
from components.aws.alerts import Alarm, make_alarm
from components.aws.computed import computed
from components.aws.identity import Role, RoleArgs, trust
from components.aws.scope import Scope
from components.aws.secrets import Rotation, Secret, SecretArgs, master_password
from components.skips import Skip

_IDENTIFIER_LIMIT = 63
_GROUP_LIMIT = 255
_MIB, _GIB = 2**20, 2**30
_METRICS = "AWS/RDS"
_LOGS = ("postgresql", "upgrade")
_CA = "rds-ca-rsa2048-g1"
_INSIGHTS_DAYS, _ADVANCED_INSIGHTS_DAYS = 7, 465
_REPLICA_BACKUP_DAYS = 7
_OLDEST_MAJOR = 14
_RESERVED_USERS = frozenset({"postgres", "admin", "administrator", "root", "master", "rdsadmin"})
_MONITORING_SECONDS = (1, 5, 10, 15, 30, 60)
_IDLE_IN_TRANSACTION_MS = 60_000
_SUBSCRIPTIONS: Mapping[str, Sequence[str]] = {
    "db-instance": ("configuration change", "failover", "failure", "low storage", "maintenance", "recovery"),
    "db-parameter-group": ("configuration change",),
    "db-security-group": ("configuration change", "failure"),
    "db-snapshot": ("creation", "deletion", "notification", "restoration"),
}


@dataclass(frozen=True)
class DatabaseArgs:
    """Size, safety and surroundings of a database."""

    scope: Scope
    """Names and account."""
    vpc_id: Input[str]
    """VPC of the subnets."""
    subnet_ids: Sequence[Input[str]]
    """Data subnets, in two zones at least."""
    client_security_group_ids: Mapping[str, Input[str]]
    """Security groups of those who may connect, by name."""
    key_arn: Input[str]
    """Key of the storage, of backups and of Performance Insights."""
    secret_key_arn: Input[str]
    """Key of the master password."""
    log_key_arn: Input[str]
    """Key of the log groups; its policy must let CloudWatch Logs use it."""
    log_days: int
    """Days for which logs are kept."""
    alerts_topic_arn: Input[str]
    """Topic that hears of alarms and of RDS's own events."""
    engine_version: str
    """PostgreSQL version: a major one, such as `17`, takes the newest minor; never change back."""
    instance_class: str
    """Such as `db.t4g.medium`."""
    storage_gib: int
    """GiB of gp3 storage to begin with, 20 to 65536."""
    max_storage_gib: int
    """GiB up to which the storage grows by itself, 10 % above `storage_gib` at least; 0 for not at all."""
    multi_az: bool
    """Keeps a standby in another zone, which takes over within about a minute."""
    read_replicas: int
    """Read replicas, 0 to 15. With any, RDS cannot manage the password; see `Database`."""
    backup_days: int
    """Days back to which the database can be restored at any second, 1 to 35."""
    deletion_protection: bool
    """AWS refuses the deletion, whoever asks."""
    protect: bool
    """Pulumi refuses the deletion and the replacement."""
    client_cidrs: Mapping[str, str] = field(default_factory=dict)
    """Private networks beside them that may connect, by name."""
    port: int = 5433
    """TCP port, 1150 to 65535; not PostgreSQL's usual one."""
    user: str = "tradestack"
    """Master user."""
    database: str = "trading"
    """Database that is made with the instance."""
    rotation: Rotation | None = None
    """What replaces the password where RDS does not; see `Database`."""
    rotation_days: int = 30
    """Days between these replacements."""
    secret_recovery_days: int = 30
    """Days for which the password's deleted secret can be had back, where RDS does not keep it."""
    replica_instance_class: str | None = None
    """Class of the read replicas; that of the primary unless given."""
    advanced_insights: bool = False
    """Database Insights in advanced mode, kept for 15 months, which costs extra; else 7 days, free."""
    monitoring_seconds: int = 60
    """Interval of enhanced monitoring: 1, 5, 10, 15, 30 or 60."""
    slow_statement_ms: int = 500
    """Statements that take longer are logged with their text."""
    connections_alarm: int = 300
    """Alarms above this many connections; PostgreSQL on RDS takes about 110 for each GiB of memory."""
    memory_alarm_mib: int = 256
    """Alarms below this much freeable memory."""
    lag_alarm_seconds: int = 30
    """Alarms when a read replica is further behind."""
    backup_window: str = "03:00-04:00"
    """Daily backup, UTC; not in the maintenance window."""
    maintenance_window: str = "sun:04:30-sun:05:30"
    """Weekly maintenance, UTC."""
    apply_immediately: bool = False
    """Changes that interrupt happen at once instead of in the maintenance window."""
    allow_major_upgrade: bool = False
    """Lets `engine_version` go to another major version, which takes the database offline for minutes."""
    backup_tag: str = "daily"
    """Value of the tag `Backup`, by which AWS Backup finds the instance."""

    def __post_init__(self) -> None:
        postgresql_family(self.engine_version)
        for name, low, high in (
            ("storage_gib", 20, 65536),
            ("read_replicas", 0, 15),
            ("backup_days", 1, 35),
            ("port", 1150, 65535),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} {value}: RDS for PostgreSQL allows {low} to {high}")
        if self.max_storage_gib and self.max_storage_gib * 10 < self.storage_gib * 11:
            least = -(-self.storage_gib * 11 // 10)
            raise ValueError(
                f"max_storage_gib {self.max_storage_gib}: 0, or at least {least}, 10 % more than now"
            )
        if self.user.lower() in _RESERVED_USERS:
            raise ValueError(f"user '{self.user}': not one of {', '.join(sorted(_RESERVED_USERS))}")
        if self.monitoring_seconds not in _MONITORING_SECONDS:
            allowed = ", ".join(map(str, _MONITORING_SECONDS))
            raise ValueError(f"monitoring_seconds {self.monitoring_seconds}: one of {allowed}")


def postgresql_family(engine_version: str) -> str:
    """Family of the parameter groups of a PostgreSQL version, such as `postgres17` of `17.6`.

    Raises:
        ValueError: this is no version, or one that AWS no longer gives new databases.
    """
    found = re.fullmatch(r"(\d+)(\.\d+)?", engine_version)
    if found is None or int(found[1]) < _OLDEST_MAJOR:
        raise ValueError(f"engine_version '{engine_version}': {_OLDEST_MAJOR} or later, such as 17 or 17.6")
    return f"postgres{found[1]}"


class Database(ComponentResource):
    """A PostgreSQL instance with its standby, read replicas, logs, alarms and password.

    RDS itself makes the master password, keeps it in Secrets Manager and replaces it every week. With read
    replicas AWS refuses that (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-secrets-manager.html,
    limitations): then the password is a generated secret of the same form, which `rotation` replaces.
    """

    host: Output[str]
    """Name of the primary."""
    port: int
    """TCP port."""
    url: Output[str]
    """SQLAlchemy URL for asyncpg, without the password."""
    replica_urls: list[Output[str]]
    """The same of each read replica."""
    secret_arn: Output[str]
    """Secret with the JSON keys `username` and `password`."""
    secret_names: list[str]
    """Names of own secrets, for `rotation_statements`; none where RDS manages the password."""
    instance_arn: Output[str]
    """ARN of the primary."""
    identifier: str
    """Identifier of the primary."""
    replica_identifiers: list[str]
    """Identifiers of the read replicas."""

    def __init__(self, name: str, args: DatabaseArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Database", name, None, opts)
        self._name, self._args, self._scope = name, args, args.scope
        self._child = ResourceOptions(parent=self)
        self.identifier = self._scope.name(name, limit=_IDENTIFIER_LIMIT)
        self.replica_identifiers = [
            self._scope.name(name, f"replica-{number}", limit=_IDENTIFIER_LIMIT)
            for number in range(1, args.read_replicas + 1)
        ]
        self.port, self.secret_names = args.port, []
        self._group = self._make_parameters()
        self._access = make_access(
            name,
            args.client_security_group_ids,
            {"postgresql": args.port},
            scope=self._scope,
            vpc_id=args.vpc_id,
            what="PostgreSQL",
            parent=self,
        )
        for client, cidr in args.client_cidrs.items():
            add_network(name, self._access, client, cidr, args.port, scope=self._scope, parent=self)
        self._monitoring = Role(
            f"{name}-monitoring",
            RoleArgs(
                scope=self._scope,
                trust=trust("monitoring.rds.amazonaws.com", self._scope, same_account=True),
                managed=("service-role/AmazonRDSEnhancedMonitoringRole",),
            ),
            self._child,
        )
        primary = self._make_primary()
        replicas = self._make_replicas(primary)
        self._subscribe(primary, replicas)
        self._make_alarms()
        self.host, self.instance_arn = primary.address, primary.arn
        self.url = self._url(primary.address)
        self.replica_urls = [self._url(replica.address) for replica in replicas]
        self.register_outputs(
            {"host": self.host, "secret_arn": self.secret_arn, "identifier": self.identifier}
        )

    def _make_parameters(self) -> aws.rds.ParameterGroup:
        family = postgresql_family(self._args.engine_version)
        # An instance moves from one group to another when its major version changes, so both must exist.
        group_name = self._scope.name(self._name, family, limit=_GROUP_LIMIT)
        now = {
            "rds.accepted_password_auth_method": "scram",
            "log_statement": "ddl",
            "log_connections": "1",
            "log_disconnections": "1",
            "log_lock_waits": "1",
            "log_min_duration_statement": str(self._args.slow_statement_ms),
            "idle_in_transaction_session_timeout": str(_IDLE_IN_TRANSACTION_MS),
        }
        # RDS keeps its own way to apply what has its default value, as both have from PostgreSQL 15 on; told
        # another way, every preview would show a change.
        at_restart = {"rds.force_ssl": "1", "shared_preload_libraries": "pg_stat_statements"}
        parameters = [
            {"name": key, "value": value, "apply_method": method}
            for settings, method in ((now, "immediate"), (at_restart, "pending-reboot"))
            for key, value in settings.items()
        ]
        return aws.rds.ParameterGroup(
            self._name,
            name=group_name,
            family=family,
            description=f"{family}: TLS only, statements and sessions logged",
            parameters=[aws.rds.ParameterGroupParameterArgs(**item) for item in parameters],
            tags=self._scope.tags(group_name),
            opts=self._child,
        )

    def _shared(self, identifier: str, instance_class: str) -> aws.rds.InstanceArgs:
        """What holds for the primary and for read replicas."""
        args = self._args
        return aws.rds.InstanceArgs(
            identifier=identifier,
            instance_class=instance_class,
            parameter_group_name=self._group.name,
            port=args.port,
            vpc_security_group_ids=[self._access.id],
            publicly_accessible=False,
            storage_type="gp3",
            storage_encrypted=True,
            kms_key_id=args.key_arn,
            max_allocated_storage=args.max_storage_gib or None,
            iam_database_authentication_enabled=True,
            ca_cert_identifier=_CA,
            auto_minor_version_upgrade=True,
            copy_tags_to_snapshot=True,
            maintenance_window=args.maintenance_window,
            apply_immediately=args.apply_immediately,
            deletion_protection=args.deletion_protection,
            enabled_cloudwatch_logs_exports=list(_LOGS),
            monitoring_interval=args.monitoring_seconds,
            monitoring_role_arn=self._monitoring.arn,
            performance_insights_enabled=True,
            performance_insights_kms_key_id=args.key_arn,
            performance_insights_retention_period=(
                _ADVANCED_INSIGHTS_DAYS if args.advanced_insights else _INSIGHTS_DAYS
            ),
            database_insights_mode="advanced" if args.advanced_insights else "standard",
        )

    def _make_primary(self) -> aws.rds.Instance:
        args = self._args
        subnets_name = self._scope.name(self._name, limit=_GROUP_LIMIT)
        subnets = aws.rds.SubnetGroup(
            self._name,
            name=subnets_name,
            description="Data subnets",
            subnet_ids=args.subnet_ids,
            tags=self._scope.tags(subnets_name),
            opts=self._child,
        )
        tags = {"Backup": args.backup_tag} if args.backup_tag else {}
        wanted = self._shared(self.identifier, args.instance_class)
        wanted.engine = "postgres"
        wanted.engine_version = args.engine_version
        wanted.allow_major_version_upgrade = args.allow_major_upgrade
        wanted.allocated_storage = args.storage_gib
        wanted.db_name = args.database
        wanted.username = args.user
        wanted.db_subnet_group_name = subnets.name
        wanted.multi_az = args.multi_az
        wanted.backup_retention_period = args.backup_days
        wanted.backup_window = args.backup_window
        # What was backed up outlives an instance that was deleted in spite of everything.
        wanted.delete_automated_backups = not args.protect
        # Its name is taken after the first time, and a stack that comes and goes is deleted often.
        wanted.skip_final_snapshot = not args.protect
        if args.protect:
            wanted.final_snapshot_identifier = self._scope.name(self._name, "final", limit=_GROUP_LIMIT)
        wanted.tags = self._scope.tags(self.identifier, **tags)
        secret = self._make_password() if args.read_replicas else None
        if secret is None:
            wanted.manage_master_user_password = True
            wanted.master_user_secret_kms_key_id = args.secret_key_arn
        else:
            wanted.password = secret.value
        logs = self._make_logs(self._name, self.identifier)
        instance = aws.rds.Instance(
            self._name,
            wanted,
            opts=ResourceOptions(parent=self, protect=args.protect, depends_on=logs),
        )
        self.secret_arn = (
            secret.arn
            if secret
            else computed(instance.master_user_secrets, lambda found: str(found[0].secret_arn))
        )
        return instance

    def _make_password(self) -> Secret:
        args = self._args
        self.secret_names.append(f"{self._name}-master")
        return Secret(
            f"{self._name}-master",
            SecretArgs(
                scope=self._scope,
                key_arn=args.secret_key_arn,
                purpose=f"Master user of the database {self.identifier}",
                rotation=args.rotation,
                rotation_days=args.rotation_days,
                recovery_days=args.secret_recovery_days,
                kind="database",
                target=self.identifier,
                wrap=master_password(args.user),
            ),
            self._child,
        )

    def _make_replicas(self, primary: aws.rds.Instance) -> list[aws.rds.Instance]:
        args = self._args
        found = []
        for number, identifier in enumerate(self.replica_identifiers, 1):
            name = f"{self._name}-replica-{number}"
            wanted = self._shared(identifier, args.replica_instance_class or args.instance_class)
            wanted.replicate_source_db = primary.identifier
            # In the same region it has the primary's key, and RDS refuses to be told.
            wanted.kms_key_id = None
            wanted.multi_az = False
            wanted.backup_retention_period = _REPLICA_BACKUP_DAYS
            wanted.skip_final_snapshot = True
            wanted.tags = self._scope.tags(identifier)
            logs = self._make_logs(name, identifier)
            options = ResourceOptions(parent=self, protect=args.protect, depends_on=logs)
            found.append(aws.rds.Instance(name, wanted, opts=options))
        return found

    def _make_logs(self, name: str, identifier: str) -> list[aws.cloudwatch.LogGroup]:
        return [
            make_log_group(
                f"{name}-{log}",
                f"/aws/rds/instance/{identifier}/{log}",
                scope=self._scope,
                key_arn=self._args.log_key_arn,
                days=self._args.log_days,
                parent=self,
            )
            for log in _LOGS
        ]

    def _subscribe(self, primary: aws.rds.Instance, replicas: Sequence[aws.rds.Instance]) -> None:
        sources: dict[str, list[Input[str]]] = {
            "db-instance": [primary.identifier, *(replica.identifier for replica in replicas)],
            "db-parameter-group": [self._group.name],
        }
        for kind, categories in _SUBSCRIPTIONS.items():
            full = self._scope.name(self._name, kind, limit=_GROUP_LIMIT)
            aws.rds.EventSubscription(
                f"{self._name}-{kind}",
                name=full,
                sns_topic=self._args.alerts_topic_arn,
                source_type=kind,
                source_ids=sources.get(kind),
                event_categories=list(categories),
                tags=self._scope.tags(full),
                opts=self._child,
            )

    def _make_alarms(self) -> None:
        self._watch(self._name, self.identifier)
        for number, identifier in enumerate(self.replica_identifiers, 1):
            self._watch(f"{self._name}-replica-{number}", identifier, replica=True)

    def _watch(self, name: str, identifier: str, *, replica: bool = False) -> None:
        args, which = self._args, {"DBInstanceIdentifier": identifier}
        tenth = args.storage_gib * _GIB / 10
        alarms = {
            "cpu": (Alarm(_METRICS, "CPUUtilization", which, above=80), "uses more than 80 % of its CPU"),
            "storage": (
                Alarm(_METRICS, "FreeStorageSpace", which, below=tenth),
                f"has less than a tenth of its first {args.storage_gib} GiB of storage left",
            ),
            "connections": (
                Alarm(_METRICS, "DatabaseConnections", which, above=args.connections_alarm),
                f"has more than {args.connections_alarm} connections",
            ),
            "memory": (
                Alarm(_METRICS, "FreeableMemory", which, below=args.memory_alarm_mib * _MIB),
                f"has less than {args.memory_alarm_mib} MiB of memory left",
            ),
        }
        if replica:
            alarms["lag"] = (
                Alarm(_METRICS, "ReplicaLag", which, above=args.lag_alarm_seconds),
                f"is more than {args.lag_alarm_seconds} s behind",
            )
        for key, (alarm, words) in alarms.items():
            what = f"The database {identifier} {words}"
            topic_arn = args.alerts_topic_arn
            make_alarm(f"{name}-{key}", alarm, scope=self._scope, topic_arn=topic_arn, what=what, parent=self)

    def _url(self, host: Input[str]) -> Output[str]:
        args = self._args
        return Output.format(
            "postgresql+asyncpg://{0}@{1}:{2}/{3}?ssl=require", args.user, host, args.port, args.database
        )


SKIPS: tuple[Skip, ...] = (
    Skip(
        "CKV_AWS_157",
        "aws:rds/instance:Instance",
        "A read replica is a second copy in another place itself; the primary has the standby.",
        "*-replica-*",
    ),
)
