"""The database: what security asks of it, its password, its replicas and its limits."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from components.aws.database import Database, DatabaseArgs, postgresql_family
from components.aws.scope import Scope
from components.aws.secrets import Rotation

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")


def arguments(**changes: Any) -> DatabaseArgs:
    given: dict[str, Any] = {
        "scope": SCOPE,
        "vpc_id": "vpc-1",
        "subnet_ids": ["subnet-1", "subnet-2", "subnet-3"],
        "client_security_group_ids": {"cluster": "sg-nodes", "functions": "sg-functions"},
        "key_arn": "arn:data",
        "secret_key_arn": "arn:secrets",
        "log_key_arn": "arn:logs",
        "log_days": 30,
        "alerts_topic_arn": "arn:alerts",
        "engine_version": "17",
        "instance_class": "db.t4g.medium",
        "storage_gib": 50,
        "max_storage_gib": 200,
        "multi_az": True,
        "read_replicas": 0,
        "backup_days": 30,
        "deletion_protection": True,
        "protect": True,
    }
    return DatabaseArgs(**{**given, **changes})


def parameters(recorded: Any) -> dict[str, str]:
    return {item["name"]: item["value"] for item in recorded.one("ParameterGroup")["parameters"]}


def test_storage_password_and_insights_are_under_customer_keys(record: Callable[..., Any]) -> None:
    instance = record(lambda: Database("database", arguments())).one("Instance")
    assert (instance["storageEncrypted"], instance["kmsKeyId"]) == (True, "arn:data")
    assert instance["manageMasterUserPassword"] is True
    assert instance["masterUserSecretKmsKeyId"] == "arn:secrets"
    assert "password" not in instance
    assert instance["performanceInsightsEnabled"] is True
    assert instance["performanceInsightsKmsKeyId"] == "arn:data"


def test_it_survives_a_zone_a_mistake_and_a_deletion(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Database("database", arguments()))
    instance = recorded.one("Instance")
    assert (instance["multiAz"], instance["deletionProtection"]) == (True, True)
    assert (instance["backupRetentionPeriod"], instance["copyTagsToSnapshot"]) == (30, True)
    assert instance["skipFinalSnapshot"] is False
    assert instance["finalSnapshotIdentifier"] == "tradestack-test-database-final"
    assert instance["deleteAutomatedBackups"] is False
    assert instance["tags"]["Backup"] == "daily"


def test_it_is_private_and_unusual(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Database("database", arguments()))
    instance = recorded.one("Instance")
    assert instance["publiclyAccessible"] is False
    assert (instance["port"], instance["username"]) == (5433, "tradestack")
    assert instance["iamDatabaseAuthenticationEnabled"] is True
    assert instance["caCertIdentifier"] == "rds-ca-rsa2048-g1"
    rules = [item.inputs for item in recorded.custom() if item.typ.endswith(":SecurityGroupIngressRule")]
    assert {rule["referencedSecurityGroupId"] for rule in rules} == {"sg-nodes", "sg-functions"}
    assert {(rule["fromPort"], rule["toPort"]) for rule in rules} == {(5433, 5433)}
    assert all("cidrIpv4" not in rule and rule["description"] for rule in rules)
    assert "SecurityGroupEgressRule" not in recorded.kinds()


def test_it_takes_tls_only_and_logs_what_matters(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Database("database", arguments(slow_statement_ms=250)))
    found = parameters(recorded)
    assert found["rds.force_ssl"] == "1"
    assert found["log_statement"] == "ddl"
    assert (found["log_connections"], found["log_disconnections"]) == ("1", "1")
    assert found["log_min_duration_statement"] == "250"
    assert found["shared_preload_libraries"] == "pg_stat_statements"
    assert int(found["idle_in_transaction_session_timeout"]) > 0
    methods = {item["name"]: item["applyMethod"] for item in recorded.one("ParameterGroup")["parameters"]}
    assert methods["shared_preload_libraries"] == "pending-reboot"  # RDS refuses immediate for a static one
    assert methods["rds.force_ssl"] == "pending-reboot"  # as RDS has it with its default value


def test_its_logs_are_encrypted_before_it_writes_them(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Database("database", arguments()))
    groups = [item.inputs for item in recorded.custom() if item.typ.endswith(":LogGroup")]
    assert {group["name"] for group in groups} == {
        "/aws/rds/instance/tradestack-test-database/postgresql",
        "/aws/rds/instance/tradestack-test-database/upgrade",
    }
    assert {(group["kmsKeyId"], group["retentionInDays"]) for group in groups} == {("arn:logs", 30)}
    assert recorded.one("Instance")["enabledCloudwatchLogsExports"] == ["postgresql", "upgrade"]


def test_it_is_watched(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Database("database", arguments()))
    instance = recorded.one("Instance")
    assert instance["monitoringInterval"] == 60
    trust = json.loads(recorded.one("Role")["assumeRolePolicy"])["Statement"][0]
    assert trust["Principal"] == {"Service": "monitoring.rds.amazonaws.com"}
    subscriptions = [item.inputs for item in recorded.custom() if item.typ.endswith(":EventSubscription")]
    heard = {item["sourceType"]: set(item["eventCategories"]) for item in subscriptions}
    assert heard["db-instance"] >= {"maintenance", "configuration change", "failure"}
    assert heard["db-parameter-group"] == {"configuration change"}
    assert heard["db-security-group"] >= {"configuration change", "failure"}
    assert "db-snapshot" in heard
    assert {item["snsTopic"] for item in subscriptions} == {"arn:alerts"}
    alarms = {item.name: item.inputs for item in recorded.custom() if item.typ.endswith(":MetricAlarm")}
    assert set(alarms) == {f"database-{key}" for key in ("cpu", "storage", "connections", "memory")}
    assert alarms["database-storage"]["threshold"] == 5 * 2**30


def test_a_database_that_may_go_leaves_no_snapshot_whose_name_stays_taken(record: Callable[..., Any]) -> None:
    instance = record(lambda: Database("database", arguments(protect=False))).one("Instance")
    assert instance["skipFinalSnapshot"] is True
    assert "finalSnapshotIdentifier" not in instance


def test_with_read_replicas_the_password_is_a_rotated_secret_of_the_same_form(
    record: Callable[..., Any],
) -> None:
    args = arguments(
        read_replicas=2, rotation=Rotation("arn:rotation"), replica_instance_class="db.r8g.large"
    )
    recorded = record(lambda: Database("database", args))
    primary = recorded.one("Instance", "database")
    assert "manageMasterUserPassword" not in primary  # AWS refuses it together with read replicas
    assert primary["password"]
    assert recorded.one("SecretRotation")["rotationLambdaArn"] == "arn:rotation"
    assert recorded.one("Secret")["tags"]["tradestack:target"] == "tradestack-test-database"
    for number in (1, 2):
        replica = recorded.one("Instance", f"database-replica-{number}")
        assert replica["identifier"] == f"tradestack-test-database-replica-{number}"
        assert replica["replicateSourceDb"] == "tradestack-test-database"
        assert replica["instanceClass"] == "db.r8g.large"
        assert (replica["publiclyAccessible"], replica["storageEncrypted"]) == (False, True)
        assert "kmsKeyId" not in replica  # in the region of its source AWS refuses to be told
        assert replica["skipFinalSnapshot"] is True  # AWS refuses a final snapshot of a replica
        assert not {"username", "password", "dbName", "engine", "allocatedStorage"} & set(replica)
    alarms = [item.name for item in recorded.custom() if item.typ.endswith(":MetricAlarm")]
    assert {"database-replica-1-lag", "database-replica-2-lag"} <= set(alarms)
    assert "database-lag" not in alarms


def test_clients_get_an_address_that_asks_for_tls(record: Callable[..., Any]) -> None:
    seen: list[str] = []
    record(lambda: Database("database", arguments()).url.apply(seen.append))
    assert seen[0].startswith("postgresql+asyncpg://tradestack@")
    assert seen[0].endswith(":5433/trading?ssl=require")


def test_what_costs_extra_is_asked_for(record: Callable[..., Any]) -> None:
    plain = record(lambda: Database("database", arguments(max_storage_gib=0))).one("Instance")
    assert (plain["performanceInsightsRetentionPeriod"], plain["databaseInsightsMode"]) == (7, "standard")
    assert "maxAllocatedStorage" not in plain
    full = record(lambda: Database("database", arguments(advanced_insights=True))).one("Instance")
    assert (full["performanceInsightsRetentionPeriod"], full["databaseInsightsMode"]) == (465, "advanced")
    assert full["maxAllocatedStorage"] == 200


@pytest.mark.parametrize(("version", "family"), [("17", "postgres17"), ("18.1", "postgres18")])
def test_the_family_follows_from_the_major_version(version: str, family: str) -> None:
    assert postgresql_family(version) == family


def test_another_major_version_gets_a_parameter_group_of_its_own(record: Callable[..., Any]) -> None:
    names = {
        record(lambda v=version: Database("database", arguments(engine_version=v))).one("ParameterGroup")[
            "name"
        ]
        for version in ("17.6", "17.7", "18")
    }
    assert names == {"tradestack-test-database-postgres17", "tradestack-test-database-postgres18"}


@pytest.mark.parametrize("version", ["", "latest", "17.x", "v17", "9.6", "17.6.1"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match=f"engine_version '{version}': 14 or later, such as 17 or 17.6"):
        postgresql_family(version)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"storage_gib": 10}, "storage_gib 10: RDS for PostgreSQL allows 20 to 65536"),
        ({"max_storage_gib": 54}, "max_storage_gib 54: 0, or at least 55"),
        ({"read_replicas": 16}, "read_replicas 16: RDS for PostgreSQL allows 0 to 15"),
        ({"backup_days": 0}, "backup_days 0: RDS for PostgreSQL allows 1 to 35"),
        ({"port": 80}, "port 80: RDS for PostgreSQL allows 1150 to 65535"),
        ({"user": "Postgres"}, "user 'Postgres': not one of admin"),
        ({"monitoring_seconds": 0}, "monitoring_seconds 0: one of 1, 5, 10, 15, 30, 60"),
    ],
)
def test_impossible_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(**changes)
