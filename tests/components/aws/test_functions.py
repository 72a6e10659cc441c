"""Functions: the app's image, least privilege, dead letters, triggers and alarms."""

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from components.aws.functions import Functions, FunctionsArgs
from components.aws.messaging import QUEUES
from components.aws.scope import Scope

Record = Callable[[Callable[[], object]], Any]
SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")
NAMES = {"report", "kyc", "price-alert", "reconciliation", "rotation"}
ARGS = FunctionsArgs(
    SCOPE,
    image="123456789012.dkr.ecr.us-east-1.amazonaws.com/tradestack-test/app@sha256:0",
    architecture="arm64",
    key_arn="arn:environment-key",
    log_key_arn="arn:log-key",
    log_days=30,
    alerts_topic_arn="arn:alerts",
    vpc_id="vpc-1",
    subnet_ids=("subnet-1", "subnet-2"),
    buckets={purpose: SCOPE.bucket(purpose) for purpose in ("reports", "kyc", "archive")},
    uploads=SCOPE.bucket("kyc"),
    storage_key_arn="arn:storage-key",
    queue_arns={name: f"arn:queue:{name}" for name in ("report", "price-alert")},
    topic_arns={name: f"arn:topic:{name}" for name in ("system", "price-alert")},
    messaging_key_arn="arn:messaging-key",
    secret_key_arn="arn:secret-key",
)


@pytest.fixture(autouse=True)
def arns(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """What AWS would answer beyond the inputs."""
    recorder = record.__globals__["Recorder"]
    answer = recorder.new_resource

    def with_arn(self: Any, args: Any) -> tuple[str, dict[str, Any]]:
        name, state = answer(self, args)
        return name, {"arn": f"arn:made:{args.typ.rsplit(':', 1)[-1]}:{args.name}", **state}

    monkeypatch.setattr(recorder, "new_resource", with_arn)


@pytest.fixture
def made(record: Record) -> Any:
    return record(lambda: Functions("functions", ARGS))


def every(made: Any, kind: str) -> dict[str, dict[str, Any]]:
    return {item.name: item.inputs for item in made.custom() if item.typ.endswith(f":{kind}")}


def allowed(made: Any, role: str) -> dict[str, list[str]]:
    """Action → resources of a role's own policy."""
    document = json.loads(made.one("RolePolicy", role)["policy"])
    found: dict[str, list[str]] = {}
    for statement in document["Statement"]:
        for action in statement["Action"]:
            found[action] = found.get(action, []) + statement["Resource"]
    return found


def test_each_function_runs_its_handler_from_the_image_of_the_app(made: Any) -> None:
    functions = every(made, "Function")
    assert functions.keys() == NAMES
    for item in functions.values():
        assert (item["packageType"], item["imageUri"]) == ("Image", ARGS.image)
        assert item["architectures"] == ["arm64"]
        assert item["imageConfig"]["entryPoints"] == ["python", "-m", "awslambdaric"]
        module, _, handler = item["imageConfig"]["commands"][0].rpartition(".")
        assert callable(getattr(importlib.import_module(module), handler))


def test_each_is_traced_bounded_encrypted_and_has_dead_letters(made: Any) -> None:
    logs = every(made, "LogGroup")
    for name, item in every(made, "Function").items():
        assert item["tracingConfig"] == {"mode": "Active"}
        assert item["reservedConcurrentExecutions"] >= 1
        assert (item.get("kmsKeyArn") == "arn:environment-key") == ("environment" in item)
        assert item["deadLetterConfig"] == {"targetArn": "arn:made:Queue:functions-dead"}
        assert item["loggingConfig"]["logGroup"] == f"/aws/lambda/tradestack-test-{name}"
        assert (logs[name]["kmsKeyId"], logs[name]["retentionInDays"]) == ("arn:log-key", 30)
    queue = made.one("Queue", "functions-dead")
    assert queue["kmsMasterKeyId"] == "arn:messaging-key"
    (statement,) = json.loads(made.one("QueuePolicy")["policy"])["Statement"]
    assert (statement["Effect"], statement["Condition"]) == (
        "Deny",
        {"Bool": {"aws:SecureTransport": "false"}},
    )


def test_each_has_a_role_of_its_own_without_wildcards(made: Any) -> None:
    roles = {name: item["role"] for name, item in every(made, "Function").items()}
    assert roles == {name: f"arn:made:Role:function-{name}" for name in NAMES}
    for role in every(made, "RolePolicy"):
        for action, resources in allowed(made, role).items():
            assert "*" not in action
            assert "*" not in resources


@pytest.mark.parametrize(
    ("name", "action", "resources"),
    [
        ("report", "s3:PutObject", ["reports-123456789012/statements/*"]),
        ("kyc", "s3:GetObjectVersion", ["kyc-123456789012/documents/*"]),
        ("kyc", "s3:PutObject", ["kyc-123456789012/results/*"]),
        ("reconciliation", "s3:PutObject", ["reports-123456789012/reconciliation/*"]),
        (
            "reconciliation",
            "s3:GetObject",
            ["archive-123456789012/analytics/*", "archive-123456789012/exports/trades/*"],
        ),
    ],
)
def test_buckets_are_open_below_a_path_only(made: Any, name: str, action: str, resources: list[str]) -> None:
    wanted = [f"arn:aws:s3:::tradestack-test-{resource}" for resource in resources]
    assert allowed(made, f"function-{name}")[action] == wanted


def test_only_rotation_reads_secrets_and_only_those_of_the_stack(made: Any) -> None:
    readers = [
        role for role in every(made, "RolePolicy") if "secretsmanager:GetSecretValue" in allowed(made, role)
    ]
    assert readers == ["function-rotation"]
    found = allowed(made, "function-rotation")
    assert found["secretsmanager:PutSecretValue"] == [
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:tradestack-test-*"
    ]
    assert found["rds:ModifyDBInstance"] == ["arn:aws:rds:us-east-1:123456789012:db:tradestack-test-*"]


def test_queues_start_functions_and_only_failed_messages_come_again(made: Any) -> None:
    mappings = every(made, "EventSourceMapping")
    assert mappings.keys() == {"report", "price-alert"}
    timeouts = {spec.name: spec.consumer_seconds for spec in QUEUES}
    for name, item in mappings.items():
        function = made.one("Function", name)
        assert item["eventSourceArn"] == f"arn:queue:{name}"
        assert item["functionResponseTypes"] == ["ReportBatchItemFailures"]
        assert item["scalingConfig"]["maximumConcurrency"] <= function["reservedConcurrentExecutions"]
        assert function["timeout"] <= timeouts[name]
        assert "arn:queue:" + name in allowed(made, f"function-{name}")["sqs:ReceiveMessage"]


def test_uploads_start_the_check_of_documents(made: Any) -> None:
    notification = made.one("BucketNotification")["lambdaFunctions"][0]
    assert (notification["events"], notification["filterPrefix"]) == (["s3:ObjectCreated:*"], "documents/")
    permission = made.one("Permission")
    assert permission["principal"] == "s3.amazonaws.com"
    assert permission["sourceAccount"] == "123456789012"
    assert permission["sourceArn"] == "arn:aws:s3:::tradestack-test-kyc-123456789012"


def test_reconciliation_runs_after_the_close_of_each_weekday(made: Any) -> None:
    schedule = made.one("Schedule")
    assert schedule["scheduleExpression"] == "cron(5 22 ? * MON-FRI *)"
    assert schedule["scheduleExpressionTimezone"] == "UTC"
    assert json.loads(schedule["target"]["input"]) == {"time": "<aws.scheduler.scheduled-time>"}
    assert schedule["target"]["arn"] == "arn:made:Function:reconciliation"
    assert schedule["target"]["deadLetterConfig"] == {"arn": "arn:made:Queue:functions-dead"}
    trusted = json.loads(made.one("Role", "schedule-reconciliation")["assumeRolePolicy"])["Statement"][0]
    assert trusted["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_old_tokens_of_caches_are_retired_every_hour(record: Record) -> None:
    args = replace(ARGS, retired_secrets=("tradestack-test-cache",))
    schedule = record(lambda: Functions("functions", args)).one("Schedule", "retire-tradestack-test-cache")
    assert schedule["scheduleExpression"] == "rate(1 hour)"
    event = json.loads(schedule["target"]["input"])
    assert event == {"Step": "retireSecret", "SecretId": "tradestack-test-cache"}


def test_only_what_works_on_trades_is_in_the_network(made: Any) -> None:
    inside = {
        name: item["vpcConfig"] for name, item in every(made, "Function").items() if "vpcConfig" in item
    }
    assert inside.keys() == {"reconciliation"}
    assert inside["reconciliation"]["subnetIds"] == ["subnet-1", "subnet-2"]
    rule = made.one("SecurityGroupEgressRule")
    assert (rule["fromPort"], rule["toPort"]) == (443, 443)
    assert not every(made, "SecurityGroupIngressRule")


def test_failures_raise_alarms(made: Any) -> None:
    found = {
        (item["metricName"], *item["dimensions"].values()) for item in every(made, "MetricAlarm").values()
    }
    wanted = {(metric, f"tradestack-test-{name}") for name in NAMES for metric in ("Errors", "Throttles")}
    wanted |= {("ApproximateNumberOfMessagesVisible", "tradestack-test-functions-dead")}
    wanted |= {("Differences", "tradestack-test-reconciliation")}
    assert found == wanted
    assert {item["alarmActions"][0] for item in every(made, "MetricAlarm").values()} == {"arn:alerts"}


def test_names_keep_within_the_limit_of_lambda(record: Record) -> None:
    long = replace(ARGS, scope=replace(SCOPE, prefix="tradestack-" + "x" * 60))
    made = record(lambda: Functions("functions", long))
    names = [item["name"] for item in every(made, "Function").values()]
    assert all(len(name) <= 64 for name in names)
    assert len(set(names)) == len(NAMES)
