"""The roles of the app that run on ECS rather than in the cluster."""

from dataclasses import dataclass

from pulumi import Input, ResourceOptions

from app.roles import ROLES, Host, Need, Role
from components.aws.containers import Containers, ContainersArgs, TaskNetwork, TaskNetworkArgs
from components.aws.identity import Statement
from components.aws.mail import Mail, MailArgs
from components.aws.messaging import queue_reader
from components.aws.task_definition import ContainerRole, SecretRef
from infra.settings import CloudSettings
from stacks.cloud.data import DATABASE_PORT, DataServices
from stacks.cloud.foundation import APP_REPOSITORY, Foundation
from stacks.cloud.services import Services

_DOUBLE = "log://"
"""Mail that is written to the log instead of being sent."""


@dataclass(frozen=True)
class Neighbours:
    """What the containers work with."""

    base: Foundation
    services: Services
    data: DataServices
    tasks: TaskNetwork
    image: str


def make_task_network(base: Foundation, opts: ResourceOptions) -> TaskNetwork:
    """The security group of the tasks; the data services let it in."""
    network = base.network
    args = TaskNetworkArgs(base.scope, network.vpc_id, network.data_cidrs, DATABASE_PORT)
    return TaskNetwork("tasks", args, opts)


def make_containers(settings: CloudSettings, around: Neighbours, opts: ResourceOptions) -> Containers:
    """Every role of the table that a cloud stack runs on ECS."""
    base, keys = around.base, around.base.keys
    mail = None
    if not settings.doubles:
        mail = Mail("mail", MailArgs(base.scope, settings.domain, settings.hosted_zone), opts)
    return Containers(
        "containers",
        ContainersArgs(
            scope=base.scope,
            image=around.image,
            repository_arn=base.registry.repository_arns[APP_REPOSITORY],
            architecture="X86_64",
            roles=[
                _container(settings, around, role, mail)
                for role in ROLES.values()
                if role.host is Host.CONTAINERS
            ],
            vpc_id=base.network.vpc_id,
            subnet_ids=base.network.private_subnet_ids,
            client_cidr=base.network.cidr,
            security_group_id=around.tasks.security_group_id,
            key_arn=keys.secrets.arn,
            secret_key_arn=keys.secrets.arn,
            messaging_key_arn=keys.messaging.arn,
            log_key_arn=keys.logs.arn,
            log_days=settings.log_days,
            log_bucket=base.storage.ready["logs"],
            alerts_topic_arn=base.alerts.topic_arn,
            minimum=settings.containers.minimum,
            maximum=settings.containers.maximum,
            deletion_protection=settings.protect,
            queue_names=around.services.messaging.queue_names,
        ),
        opts,
    )


def _container(settings: CloudSettings, around: Neighbours, role: Role, mail: Mail | None) -> ContainerRole:
    environment: dict[str, Input[str]] = {"APP_LOG_LEVEL": settings.log_level.upper()}
    secrets: dict[str, SecretRef] = {}
    statements: list[Statement] = []
    if Need.DATABASE in role.needs:
        database = around.data.database
        environment["APP_DATABASE_URL"] = database.url
        secrets["APP_DATABASE_PASSWORD"] = SecretRef(database.secret_arn, "password")
    if role.queue is not None:
        messaging, key = around.services.messaging, around.base.keys.messaging.arn
        environment["APP_QUEUE_URL"] = messaging.queue_urls[role.queue]
        statements += queue_reader(around.base.scope, messaging.queue_arns[role.queue], key)
        environment["APP_MAIL_URL"] = mail.url if mail else _DOUBLE
        if mail is not None:
            environment["APP_MAIL_FROM"] = mail.sender
            statements.append(Statement(("ses:SendEmail", "ses:SendRawEmail"), mail.arns))
    return ContainerRole(role, environment, secrets, statements)
