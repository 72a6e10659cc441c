"""Lambda functions: the handlers of `app/functions`, run from the app's own image (decision 7)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.alerts import Alarm, make_alarm
from components.aws.dead_letters import make_dead_letters
from components.aws.function_table import (
    FunctionSpec,
    Resources,
    dead_letter_writer,
    function_table,
)
from components.aws.identity import Role, RoleArgs, Statement, trust
from components.aws.messaging import queue_reader
from components.aws.scope import Scope
from components.skips import Skip

_NAME_LIMIT = 64
_ENTRY = ("python", "-m", "awslambdaric")
_FOLDER = "/srv"
"""Working directory of the app's image."""
_LEAST_CONCURRENCY = 2
"""The lowest that a queue's maximum concurrency can be set to."""
_TRACING = "AWSXRayDaemonWriteAccess"
_NETWORK = "service-role/AWSLambdaVPCAccessExecutionRole"


@dataclass(frozen=True)
class FunctionsArgs:
    """All functions of a stack."""

    scope: Scope
    """Names and account."""
    image: Input[str]
    """Image of the app in ECR of this region, by digest; for one architecture, not an index of several."""
    architecture: Literal["arm64", "x86_64"]
    """Architecture of the image."""
    key_arn: Input[str]
    """Key of the functions' environment and of the schedules."""
    log_key_arn: Input[str]
    """Key of the log groups."""
    log_days: int
    """Days for which logs are kept."""
    alerts_topic_arn: Input[str]
    """Where alarms go."""
    vpc_id: Input[str]
    """VPC of the functions that work on the platform's data."""
    subnet_ids: Sequence[Input[str]]
    """Private subnets with a way to AWS's services."""
    buckets: Mapping[str, str]
    """Purpose → name: `reports`, `kyc` and `archive`."""
    uploads: Input[str]
    """The bucket `kyc`, known once it exists."""
    storage_key_arn: Input[str]
    """Key of the buckets."""
    queue_arns: Mapping[str, Input[str]]
    """Queue → ARN: `report` and `price-alert`."""
    topic_arns: Mapping[str, Input[str]]
    """Topic → ARN: `system` and `price-alert`."""
    messaging_key_arn: Input[str]
    """Key of queues and topics, and of the functions' dead letters."""
    secret_key_arn: Input[str]
    """Key of the secrets that are rotated."""
    retired_secrets: Sequence[str] = ()
    """Full names of cache secrets; every hour the cache forgets a token that is no longer the current one."""


class Functions(ComponentResource):
    """The functions with their triggers, dead letters and alarms."""

    function_arns: dict[str, Output[str]]
    """Function → ARN: `report`, `kyc`, `price-alert`, `reconciliation`, `rotation`."""
    security_group_id: Output[str]
    """Group of the functions inside the VPC."""
    dead_letter_arn: Output[str]
    """Queue of the calls that failed for good."""
    function_names: list[str]
    """Full names of the functions."""

    def __init__(self, name: str, args: FunctionsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Functions", name, None, opts)
        self._args = args
        self._given = Resources(
            scope=args.scope,
            buckets=args.buckets,
            topic_arns=args.topic_arns,
            storage_key_arn=args.storage_key_arn,
            messaging_key_arn=args.messaging_key_arn,
            secret_key_arn=args.secret_key_arn,
        )
        self.security_group_id = self._make_security_group(name)
        self.dead_letter_arn = make_dead_letters(
            f"{name}-dead",
            scope=args.scope,
            key_arn=args.messaging_key_arn,
            alerts_topic_arn=args.alerts_topic_arn,
            parent=self,
        ).arn
        functions: dict[str, aws.lambda_.Function] = {}
        for spec in function_table(self._given, args.retired_secrets):
            functions[spec.name] = self._make_function(spec)
            self._start_by_queue(spec, functions[spec.name])
            self._start_by_schedule(spec, functions[spec.name])
            self._make_alarms(spec)
        self._start_by_upload(functions["kyc"])
        self.function_names = [self._function_name(name) for name in functions]
        self.function_arns = {key: function.arn for key, function in functions.items()}
        self.register_outputs({"function_arns": self.function_arns})

    def _function_name(self, name: str) -> str:
        return self._args.scope.name(name, limit=_NAME_LIMIT)

    def _make_security_group(self, name: str) -> Output[str]:
        scope, child = self._args.scope, ResourceOptions(parent=self)
        group_name = scope.name(name, limit=255)
        group = aws.ec2.SecurityGroup(
            name,
            name=group_name,
            description="Functions that work on the platform's data",
            vpc_id=self._args.vpc_id,
            tags=scope.tags(group_name),
            opts=child,
        )
        aws.vpc.SecurityGroupEgressRule(
            name,
            security_group_id=group.id,
            description="HTTPS to the endpoints of AWS's services",
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            cidr_ipv4="0.0.0.0/0",
            tags=scope.tags(group_name),
            opts=child,
        )
        return group.id

    def _make_function(self, spec: FunctionSpec) -> aws.lambda_.Function:
        args, child = self._args, ResourceOptions(parent=self)
        function_name = self._function_name(spec.name)
        log_name = f"/aws/lambda/{function_name}"
        logs = aws.cloudwatch.LogGroup(
            spec.name,
            name=log_name,
            kms_key_id=args.log_key_arn,
            retention_in_days=args.log_days,
            tags=args.scope.tags(log_name),
            opts=child,
        )
        log_arn = args.scope.arn("logs", f"log-group:{log_name}:log-stream:*")
        statements = [
            *spec.statements,
            Statement(("logs:CreateLogStream", "logs:PutLogEvents"), (log_arn,)),
            *dead_letter_writer(self._given, self.dead_letter_arn),
        ]
        if spec.queue is not None:
            statements += queue_reader(args.scope, args.queue_arns[spec.queue], args.messaging_key_arn)
        role = Role(
            f"function-{spec.name}",
            RoleArgs(
                args.scope,
                trust("lambda.amazonaws.com", args.scope),
                statements,
                managed=(_TRACING, _NETWORK) if spec.in_network else (_TRACING,),
            ),
            child,
        )
        network: aws.lambda_.FunctionVpcConfigArgsDict = {
            "subnet_ids": list(args.subnet_ids),
            "security_group_ids": [self.security_group_id],
        }
        return aws.lambda_.Function(
            spec.name,
            name=function_name,
            description=spec.what,
            role=role.arn,
            package_type="Image",
            image_uri=args.image,
            image_config={
                "entry_points": list(_ENTRY),
                "commands": [f"app.functions.{spec.module}.handler"],
                "working_directory": _FOLDER,
            },
            architectures=[args.architecture],
            timeout=spec.seconds,
            memory_size=spec.memory_mib,
            reserved_concurrent_executions=spec.concurrency,
            environment={"variables": dict(spec.environment)} if spec.environment else None,
            kms_key_arn=args.key_arn if spec.environment else None,
            tracing_config={"mode": "Active"},
            dead_letter_config={"target_arn": self.dead_letter_arn},
            logging_config={"log_format": "JSON", "log_group": logs.name},
            vpc_config=network if spec.in_network else None,
            tags=args.scope.tags(function_name),
            opts=child,
        )

    def _start_by_queue(self, spec: FunctionSpec, function: aws.lambda_.Function) -> None:
        if spec.queue is None:
            return
        aws.lambda_.EventSourceMapping(
            spec.name,
            event_source_arn=self._args.queue_arns[spec.queue],
            function_name=function.arn,
            batch_size=10,
            function_response_types=["ReportBatchItemFailures"],
            # Without it Lambda takes more messages than it may run calls for, and they use up their attempts.
            scaling_config={"maximum_concurrency": max(spec.concurrency, _LEAST_CONCURRENCY)},
            tags=self._args.scope.tags(self._function_name(spec.name)),
            opts=ResourceOptions(parent=self),
        )

    def _start_by_upload(self, function: aws.lambda_.Function) -> None:
        args = self._args
        allowed = aws.lambda_.Permission(
            "kyc",
            action="lambda:InvokeFunction",
            function=function.arn,
            principal="s3.amazonaws.com",
            source_arn=self._given.bucket_arn("kyc"),
            source_account=args.scope.account,
            opts=ResourceOptions(parent=self),
        )
        aws.s3.BucketNotification(
            "kyc",
            bucket=args.uploads,
            lambda_functions=[
                {
                    "lambda_function_arn": function.arn,
                    "events": ["s3:ObjectCreated:*"],
                    "filter_prefix": "documents/",
                }
            ],
            opts=ResourceOptions(parent=self, depends_on=[allowed]),
        )

    def _start_by_schedule(self, spec: FunctionSpec, function: aws.lambda_.Function) -> None:
        if not spec.schedules:
            return
        args, child = self._args, ResourceOptions(parent=self)
        role = Role(
            f"schedule-{spec.name}",
            RoleArgs(
                args.scope,
                trust("scheduler.amazonaws.com", args.scope, same_account=True),
                [
                    Statement(("lambda:InvokeFunction",), (function.arn,)),
                    *dead_letter_writer(self._given, self.dead_letter_arn),
                    self._given.key_through("scheduler", args.key_arn, "Decrypt"),
                ],
            ),
            child,
        )
        for name, (expression, event) in spec.schedules.items():
            aws.scheduler.Schedule(
                name,
                name=args.scope.name(name, limit=64),
                description=spec.what,
                schedule_expression=expression,
                schedule_expression_timezone="UTC",
                flexible_time_window={"mode": "OFF"},
                kms_key_arn=args.key_arn,
                target={
                    "arn": function.arn,
                    "role_arn": role.arn,
                    "input": json.dumps(event),
                    "dead_letter_config": {"arn": self.dead_letter_arn},
                    "retry_policy": {"maximum_retry_attempts": 3, "maximum_event_age_in_seconds": 3600},
                },
                opts=child,
            )

    def _make_alarms(self, spec: FunctionSpec) -> None:
        function_name = self._function_name(spec.name)
        dimensions = {"FunctionName": function_name}
        for metric, what in (("Errors", "fails"), ("Throttles", "is throttled")):
            self._alarm(
                f"{spec.name}-{metric.lower()}",
                Alarm(
                    "AWS/Lambda",
                    metric,
                    dimensions,
                    above=0,
                    statistic="Sum",
                    period_seconds=300,
                    periods=1,
                ),
                f"The function {function_name} {what}",
            )
        if spec.own_metric is not None:
            self._alarm(
                f"{spec.name}-{spec.own_metric.lower()}",
                Alarm(
                    "Tradestack",
                    spec.own_metric,
                    {"Function": function_name},
                    above=0,
                    statistic="Maximum",
                    period_seconds=300,
                    periods=1,
                ),
                f"{spec.what}: {spec.own_metric.lower()} were found",
            )

    def _alarm(self, name: str, alarm: Alarm, what: str) -> None:
        make_alarm(
            name,
            alarm,
            scope=self._args.scope,
            topic_arn=self._args.alerts_topic_arn,
            what=what,
            parent=self,
        )


SKIPS: tuple[Skip, ...] = (
    Skip(
        "CKV_AWS_272",
        "aws:lambda/function:Function",
        "Lambda signs archives only; these functions are images, pinned by digest.",
    ),
    *(
        Skip(
            "CKV_AWS_117",
            "aws:lambda/function:Function",
            "It calls AWS's own services only and reads no data inside the VPC.",
            name=name,
        )
        for name in ("report", "kyc", "price-alert", "rotation")
    ),
)
