"""The functions of `app/functions` as data: what each is given, may do and is started by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pulumi import Input, Output

from components.aws.identity import Statement
from components.aws.scope import Scope


@dataclass(frozen=True)
class Resources:
    """What the functions work on."""

    scope: Scope
    """Names and account."""
    buckets: Mapping[str, str]
    """Purpose → name: `reports`, `kyc` and `archive`."""
    topic_arns: Mapping[str, Input[str]]
    """Topic → ARN: `system` and `price-alert`."""
    storage_key_arn: Input[str]
    """Key of the buckets."""
    messaging_key_arn: Input[str]
    """Key of queues and topics."""
    secret_key_arn: Input[str]
    """Key of the secrets that are rotated."""

    def bucket_arn(self, purpose: str, path: str = "") -> str:
        """ARN of a bucket, or of what lies below a path of it."""
        return f"arn:{self.scope.partition}:s3:::{self.buckets[purpose]}{path}"

    def key_through(self, service: str, key_arn: Input[str], *actions: str) -> Statement:
        """Use of a key, through one service only."""
        via = {"StringEquals": {"kms:ViaService": f"{service}.{self.scope.region}.amazonaws.com"}}
        return Statement([f"kms:{action}" for action in actions], (key_arn,), via)

    def publishing(self, topic: str) -> list[Statement]:
        """What it takes to publish to an encrypted topic."""
        return [
            Statement(("sns:Publish",), (self.topic_arns[topic],)),
            self.key_through("sns", self.messaging_key_arn, "Decrypt", "GenerateDataKey"),
        ]


@dataclass(frozen=True)
class FunctionSpec:
    """One function."""

    name: str
    """Last part of its name."""
    module: str
    """Module of `app.functions` whose `handler` it runs."""
    what: str
    """What it does, in words."""
    seconds: int
    """Longest time of one call, up to 900."""
    memory_mib: int
    """Memory; processor time grows with it."""
    concurrency: int
    """Calls at the same time, reserved for it out of the account's limit."""
    environment: Mapping[str, Input[str]]
    """Variables of the app."""
    statements: Sequence[Statement]
    """What it may do, beside logging, tracing and its dead letters."""
    queue: str | None = None
    """Queue that it is started by."""
    in_network: bool = False
    """Runs inside the VPC."""
    own_metric: str | None = None
    """A count in the namespace `Tradestack` that should stay 0."""
    schedules: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Name → expression (UTC) and input of EventBridge Scheduler."""


def function_table(given: Resources, retired_secrets: Sequence[str]) -> list[FunctionSpec]:
    """Every function; `retired_secrets` are names of cache secrets whose old tokens are to be forgotten."""
    system = {"APP_SYSTEM_TOPIC_ARN": given.topic_arns["system"]}
    reports = given.buckets["reports"]
    write = ("Decrypt", "GenerateDataKey")
    return [
        FunctionSpec(
            "report",
            "report",
            "Account statements as PDF",
            seconds=120,
            memory_mib=512,
            concurrency=5,
            environment={"APP_REPORTS_BUCKET": reports, **system},
            statements=[
                Statement(("s3:PutObject",), (given.bucket_arn("reports", "/statements/*"),)),
                given.key_through("s3", given.storage_key_arn, *write),
                *given.publishing("system"),
            ],
            queue="report",
        ),
        FunctionSpec(
            "kyc",
            "kyc",
            "Checks of uploaded identity documents",
            seconds=30,
            memory_mib=256,
            concurrency=5,
            environment=system,
            statements=[
                Statement(
                    ("s3:GetObjectVersion", "s3:PutObjectVersionTagging"),
                    (given.bucket_arn("kyc", "/documents/*"),),
                ),
                Statement(("s3:PutObject",), (given.bucket_arn("kyc", "/results/*"),)),
                given.key_through("s3", given.storage_key_arn, *write),
                *given.publishing("system"),
            ],
        ),
        FunctionSpec(
            "price-alert",
            "price_alert",
            "Alerts of users whose price level was crossed",
            seconds=30,
            memory_mib=256,
            concurrency=10,
            environment={"APP_PRICE_ALERT_TOPIC_ARN": given.topic_arns["price-alert"]},
            statements=given.publishing("price-alert"),
            queue="price-alert",
        ),
        FunctionSpec(
            "reconciliation",
            "reconciliation",
            "Exported trades of the day against the analytics files",
            seconds=300,
            memory_mib=1024,
            concurrency=1,
            environment={
                "APP_ARCHIVE_BUCKET": given.buckets["archive"],
                "APP_REPORTS_BUCKET": reports,
                **system,
            },
            statements=[
                Statement(
                    ("s3:ListBucket",),
                    (given.bucket_arn("archive"),),
                    {"StringLike": {"s3:prefix": ["analytics/*", "exports/trades/*"]}},
                ),
                Statement(
                    ("s3:GetObject",),
                    [given.bucket_arn("archive", path) for path in ("/analytics/*", "/exports/trades/*")],
                ),
                Statement(("s3:PutObject",), (given.bucket_arn("reports", "/reconciliation/*"),)),
                given.key_through("s3", given.storage_key_arn, *write),
                *given.publishing("system"),
            ],
            in_network=True,
            own_metric="Differences",
            # The market closes at 22:00 UTC; five minutes later the stream has been written to files.
            schedules={
                "reconciliation": (
                    "cron(5 22 ? * MON-FRI *)",
                    {"time": "<aws.scheduler.scheduled-time>"},
                )
            },
        ),
        FunctionSpec(
            "rotation",
            "rotation",
            "Replacement of secrets",
            seconds=900,
            memory_mib=256,
            concurrency=5,
            environment={},
            statements=_rotation(given),
            schedules={
                f"retire-{name}": ("rate(1 hour)", {"Step": "retireSecret", "SecretId": name})
                for name in retired_secrets
            },
        ),
    ]


def _rotation(given: Resources) -> list[Statement]:
    scope = given.scope
    return [
        Statement(
            (
                "secretsmanager:DescribeSecret",
                "secretsmanager:GetSecretValue",
                "secretsmanager:PutSecretValue",
                "secretsmanager:UpdateSecretVersionStage",
            ),
            (scope.arn("secretsmanager", f"secret:{scope.prefix}-*"),),
        ),
        given.key_through("secretsmanager", given.secret_key_arn, "Decrypt", "GenerateDataKey"),
        Statement(
            ("elasticache:DescribeReplicationGroups", "elasticache:ModifyReplicationGroup"),
            (
                scope.arn("elasticache", f"replicationgroup:{scope.prefix}-*"),
                scope.arn("elasticache", f"parametergroup:{scope.prefix}-*"),
            ),
        ),
        Statement(
            ("rds:DescribeDBInstances", "rds:ModifyDBInstance"), (scope.arn("rds", f"db:{scope.prefix}-*"),)
        ),
    ]


def dead_letter_writer(given: Resources, queue_arn: Output[str]) -> list[Statement]:
    """What it takes to put a failed call into the encrypted queue of dead letters."""
    return [
        Statement(("sqs:SendMessage",), (queue_arn,)),
        given.key_through("sqs", given.messaging_key_arn, "Decrypt", "GenerateDataKey"),
    ]
