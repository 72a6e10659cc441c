"""A role of the app as a Fargate task: what runs in it and what it may do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi_aws as aws
from pulumi import Input, Output, Resource, ResourceOptions

from app.roles import Role as AppRole
from components.aws.identity import Role, RoleArgs, Statement, trust
from components.aws.scope import Scope

_USER = "10001:10001"
"""The user of the app's image."""
_STOP_SECONDS = 120
"""The longest that Fargate waits after SIGTERM."""


@dataclass(frozen=True)
class SecretRef:
    """Where the value of a secret is."""

    arn: Input[str]
    """ARN of the secret in Secrets Manager."""
    key: str | None = None
    """Key in the secret's JSON; None takes the whole text."""

    @property
    def place(self) -> Output[str]:
        """As ECS names it: ARN, key, stage and version."""
        return Output.concat(self.arn, f":{self.key}::" if self.key else "")


@dataclass(frozen=True)
class ContainerRole:
    """A role of the app and how a stack runs it."""

    role: AppRole
    """A service or job of the role table."""
    environment: Mapping[str, Input[str]] = field(default_factory=dict)
    """Variables of the app that are no secrets."""
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)
    """Variable → secret that ECS puts into it; ECS knows no secrets as files."""
    statements: Sequence[Statement] = ()
    """What the app may do at AWS."""
    cpu: int = 256
    """CPU units, 1024 for a core; Fargate allows 256, 512, 1024, 2048, 4096 and more."""
    memory_mib: int = 512
    """Memory in MiB; what Fargate allows depends on `cpu` (512 to 2048 for 256)."""


@dataclass(frozen=True)
class TaskPlace:
    """What all tasks of a stack have in common."""

    scope: Scope
    """Names and account."""
    image: Input[str]
    """Image of the app, by digest."""
    repository_arn: Input[str]
    """Repository of the image."""
    architecture: Literal["ARM64", "X86_64"]
    """Architecture of the image."""
    secret_key_arn: Input[str]
    """Key of the secrets."""
    log_key_arn: Input[str]
    """Key of the log groups."""
    log_days: int
    """Days for which logs are kept."""


@dataclass(frozen=True)
class TaskParts:
    """A registered task."""

    arn: Output[str]
    """ARN of the task definition's revision."""
    family: str
    """Name of the task definition without the revision."""
    role_arns: Sequence[Output[str]]
    """What a starter must be allowed to pass: the task's role and the agent's."""
    containers: list[dict[str, Any]]
    """The container definitions before they become text."""


def make_task(place: TaskPlace, item: ContainerRole, *, parent: Resource) -> TaskParts:
    """Register the task of a role with its logs, its own role and the role of the agent that starts it."""
    scope, name, child = place.scope, item.role.name, ResourceOptions(parent=parent)
    family = scope.name(name, limit=255)
    log_name = f"/aws/ecs/{family}"
    logs = aws.cloudwatch.LogGroup(
        name,
        name=log_name,
        kms_key_id=place.log_key_arn,
        retention_in_days=place.log_days,
        tags=scope.tags(log_name),
        opts=child,
    )
    trusted = trust("ecs-tasks.amazonaws.com", scope, same_account=True)
    own = Role(f"task-{name}", RoleArgs(scope, trusted, item.statements), child)
    agent = Role(f"agent-{name}", RoleArgs(scope, trusted, _agent(place, item, log_name)), child)
    containers = [_container(place, item, logs.name)]
    task = aws.ecs.TaskDefinition(
        name,
        family=family,
        requires_compatibilities=["FARGATE"],
        network_mode="awsvpc",
        cpu=str(item.cpu),
        memory=str(item.memory_mib),
        runtime_platform={
            "cpu_architecture": place.architecture,
            "operating_system_family": "LINUX",
        },
        task_role_arn=own.arn,
        execution_role_arn=agent.arn,
        container_definitions=Output.json_dumps(containers),
        # A rollback starts the revision before this one, which must still be there.
        skip_destroy=True,
        tags=scope.tags(family),
        opts=child,
    )
    return TaskParts(task.arn, family, (own.arn, agent.arn), containers)


def _container(place: TaskPlace, item: ContainerRole, log_group: Output[str]) -> dict[str, Any]:
    role = item.role
    container: dict[str, Any] = {
        "name": role.name,
        "image": place.image,
        "essential": True,
        "command": ["run", role.name],
        "user": _USER,
        "readonlyRootFilesystem": True,
        "privileged": False,
        "linuxParameters": {"capabilities": {"drop": ["ALL"]}, "initProcessEnabled": True},
        "stopTimeout": min(role.drain_seconds + 10, _STOP_SECONDS),
        "environment": [
            {"name": name, "value": value}
            for name, value in sorted({"APP_LOG_FORMAT": "json", **item.environment}.items())
        ],
        "secrets": [
            {"name": name, "valueFrom": secret.place} for name, secret in sorted(item.secrets.items())
        ],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": log_group,
                "awslogs-region": place.scope.region,
                "awslogs-stream-prefix": role.name,
                # A role goes on when its log cannot be written.
                "mode": "non-blocking",
            },
        },
    }
    if role.port is not None:
        container["portMappings"] = [{"containerPort": role.port, "protocol": "tcp"}]
        container["healthCheck"] = {
            "command": ["CMD", "python", "-m", "app", "healthcheck", role.name],
            "interval": 30,
            "timeout": 10,
            "retries": 3,
            "startPeriod": 60,
        }
    return container


def _agent(place: TaskPlace, item: ContainerRole, log_name: str) -> list[Statement]:
    """What ECS itself needs to start the task."""
    scope = place.scope
    statements = [
        # The one action of ECR that knows no resources.
        Statement(("ecr:GetAuthorizationToken",), ("*",)),
        Statement(
            ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
            (place.repository_arn,),
        ),
        Statement(
            ("logs:CreateLogStream", "logs:PutLogEvents"),
            (scope.arn("logs", f"log-group:{log_name}:log-stream:*"),),
        ),
    ]
    if item.secrets:
        via = {"StringEquals": {"kms:ViaService": f"secretsmanager.{scope.region}.amazonaws.com"}}
        arns = [secret.arn for _, secret in sorted(item.secrets.items())]
        statements += [
            Statement(("secretsmanager:GetSecretValue",), arns),
            Statement(("kms:Decrypt",), (place.secret_key_arn,), via),
        ]
    return statements
