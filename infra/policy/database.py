"""Assertions about RDS."""

from collections.abc import Iterator

from infra.policy.model import Estate, Resource, dig
from infra.policy.registry import assertion
from infra.policy.rules import customer_key, is_set, number

_INSTANCE = "aws:rds/instance:Instance"
_PARAMETERS = "aws:rds/parameterGroup:ParameterGroup"
_EVENTS = "aws:rds/eventSubscription:EventSubscription"
_SECRET = "aws:secretsmanager/secret:Secret"  # noqa: S105 - a type token
_VERSION = "aws:secretsmanager/secretVersion:SecretVersion"
_ROTATION = "aws:secretsmanager/secretRotation:SecretRotation"

_BACKUP_DAYS = 7
_PRODUCTION_BACKUP_DAYS = 30
_DEFAULT_USERS = frozenset({"postgres", "admin", "root", "master", "rdsadmin", "administrator"})
_DEFAULT_PORT = 5432
_RECENT_CAS = ("rds-ca-rsa2048-g1", "rds-ca-rsa4096-g1", "rds-ca-ecc384-g1")
_WATCHED = ("db-instance", "db-parameter-group", "db-security-group")


def _databases(estate: Estate) -> list[Resource]:
    return estate.of(_INSTANCE)


def _primaries(estate: Estate) -> list[Resource]:
    """Databases that are no read replica: a replica takes the rest from its source."""
    return [item for item in estate.of(_INSTANCE) if not item.given("replicateSourceDb")]


@assertion(16, "Databases are encrypted under a customer key", "RDS.3", on=_primaries, family="RDS")
def encrypted(database: Resource, estate: Estate) -> Iterator[str]:
    """Storage, and with it backups and snapshots."""
    if not is_set(database, "storageEncrypted"):
        yield "the storage is not encrypted"
    if not customer_key(database, "kmsKeyId", estate):
        yield "the storage has no customer key"


@assertion(17, "Databases stand in two zones", "RDS.5", on=_primaries, family="RDS", severity="medium")
def multi_az(database: Resource, estate: Estate) -> Iterator[str]:
    """A standby takes over when a zone fails."""
    if not is_set(database, "multiAz"):
        yield "Multi-AZ is off"


@assertion(18, "Databases are not public", "RDS.2", on=_databases, family="RDS", severity="critical")
def private(database: Resource, estate: Estate) -> Iterator[str]:
    """They have no address outside the VPC."""
    if not is_set(database, "publiclyAccessible", False):
        yield "publiclyAccessible is not false"


@assertion(19, "Databases refuse deletion and leave a final snapshot", "RDS.8", on=_primaries, family="RDS")
def deletion(database: Resource, estate: Estate) -> Iterator[str]:
    """By AWS itself, whoever asks."""
    if not is_set(database, "deletionProtection"):
        yield "deletion protection is off"
    if database.get("skipFinalSnapshot", False) not in (False, None):
        yield "no final snapshot is taken"
    elif not database.given("finalSnapshotIdentifier"):
        yield "the final snapshot has no name, so that AWS refuses the deletion"


@assertion(20, "Backups are kept long enough", "RDS.11", on=_primaries, family="RDS")
def backups(database: Resource, estate: Estate) -> Iterator[str]:
    """7 days, in production 30."""
    wanted = _PRODUCTION_BACKUP_DAYS if estate.production else _BACKUP_DAYS
    found = number(database, "backupRetentionPeriod")
    if found is None or found < wanted:
        yield f"backups are kept for {found or 0:g} days, not {wanted}"


@assertion(21, "Databases take IAM logins", "RDS.10", on=_databases, family="RDS", severity="medium")
def iam_login(database: Resource, estate: Estate) -> Iterator[str]:
    """So that people need no password."""
    if not is_set(database, "iamDatabaseAuthenticationEnabled"):
        yield "IAM authentication is off"


@assertion(22, "Databases refuse connections without TLS", on=_primaries, family="RDS")
def force_tls(database: Resource, estate: Estate) -> Iterator[str]:
    """rds.force_ssl is 1 in a parameter group of the stack."""
    groups = estate.targets(database, "parameterGroupName", _PARAMETERS)
    parameters = [item for group in groups for item in group.items("parameters")]
    values = [str(dig(item, "value")) for item in parameters if dig(item, "name") == "rds.force_ssl"]
    if values != ["1"]:
        yield "rds.force_ssl is not 1"


@assertion(23, "Databases export their logs", "RDS.9", on=_databases, family="RDS", severity="medium")
def log_exports(database: Resource, estate: Estate) -> Iterator[str]:
    """To CloudWatch, where they outlive the instance."""
    if "postgresql" not in database.items("enabledCloudwatchLogsExports"):
        yield "the log postgresql is not exported"


@assertion(
    24,
    "Performance Insights is on, under a customer key",
    on=_databases,
    family="RDS",
    severity="medium",
)
def performance_insights(database: Resource, estate: Estate) -> Iterator[str]:
    """It shows statements, which may hold data."""
    if not is_set(database, "performanceInsightsEnabled"):
        yield "Performance Insights is off"
    elif not customer_key(database, "performanceInsightsKmsKeyId", estate):
        yield "Performance Insights has no customer key"


@assertion(25, "Enhanced monitoring is on", "RDS.6", on=_databases, family="RDS", severity="low")
def monitoring(database: Resource, estate: Estate) -> Iterator[str]:
    """An interval and the role to report with."""
    if not number(database, "monitoringInterval") or not database.given("monitoringRoleArn"):
        yield "enhanced monitoring is off"


@assertion(
    26,
    "Minor versions install themselves; snapshots carry tags",
    "RDS.13",
    "RDS.17",
    on=_databases,
    family="RDS",
    severity="medium",
)
def upkeep(database: Resource, estate: Estate) -> Iterator[str]:
    """Security fixes arrive in the maintenance window."""
    if database.get("autoMinorVersionUpgrade", True) is not True:
        yield "minor versions do not install themselves"
    if not is_set(database, "copyTagsToSnapshot"):
        yield "snapshots do not carry the tags"


@assertion(
    27,
    "RDS or a rotated secret keeps the password; user and port are not the usual ones",
    "RDS.25",
    "RDS.23",
    on=_primaries,
    family="RDS",
)
def credentials(database: Resource, estate: Estate) -> Iterator[str]:
    """With read replicas RDS does not manage it: then it is a generated secret that is rotated."""
    managed = is_set(database, "manageMasterUserPassword") and not database.given("password")
    if not (managed or _kept(database, estate)):
        yield "the password is neither managed by RDS nor a secret that is replaced by itself"
    user = database.get("username")
    if not isinstance(user, str) or user.lower() in _DEFAULT_USERS:
        yield f"the user is a usual one ({user})"
    if number(database, "port") in (None, _DEFAULT_PORT):
        yield f"the port is the usual one ({_DEFAULT_PORT})"


def _kept(database: Resource, estate: Estate) -> bool:
    """Whether a database with read replicas has its password from a secret that is rotated."""
    if not estate.users(database, "replicateSourceDb", _INSTANCE):
        return False
    sources = set(database.sources("password"))
    versions = [item for item in estate.of(_VERSION) if sources & set(item.sources("secretString"))]
    secrets = [secret for item in versions for secret in estate.targets(item, "secretId", _SECRET)]
    return any(estate.users(secret, "secretId", _ROTATION) for secret in secrets)


@assertion(
    28,
    "Databases have a recent certificate authority, and somebody hears of their events",
    "RDS.19",
    "RDS.20",
    "RDS.21",
    "RDS.22",
    on=_databases,
    family="RDS",
    severity="low",
)
def authority(database: Resource, estate: Estate) -> Iterator[str]:
    """Instances, parameter groups and security groups."""
    if database.get("caCertIdentifier") not in _RECENT_CAS:
        yield f"the certificate authority is none of {', '.join(_RECENT_CAS)}"
    if database.given("replicateSourceDb"):
        return
    heard = [item.get("sourceType") for item in estate.of(_EVENTS) if item.get("enabled", True) is True]
    missing = [kind for kind in _WATCHED if kind not in heard and None not in heard]
    if missing:
        yield f"nobody hears of events of {', '.join(missing)}"
