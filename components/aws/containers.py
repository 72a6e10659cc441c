"""ECS on Fargate: the services and jobs of the app that run outside Kubernetes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from app.roles import Kind
from components.aws.alerts import Alarm, make_alarm
from components.aws.buildspec import Rollout
from components.aws.dead_letters import make_dead_letters
from components.aws.rollout import FrontArgs, RolloutArgs, make_front, make_rollout
from components.aws.scheduled_tasks import JobPlace, make_job
from components.aws.scope import Scope
from components.aws.task_definition import ContainerRole, TaskParts, TaskPlace, make_task

_NAME_LIMIT = 255
_BACKLOG = 100
"""Messages in a service's queue above which tasks are added."""
_CPU_PERCENT = 70


@dataclass(frozen=True)
class TaskNetworkArgs:
    """What the tasks may reach."""

    scope: Scope
    """Names and account."""
    vpc_id: Input[str]
    """VPC of the tasks."""
    data_cidrs: Sequence[str]
    """Networks of the data services."""
    database_port: int
    """Port of the database in these networks."""


class TaskNetwork(ComponentResource):
    """The security group of the tasks; made before the data services, which let it in."""

    security_group_id: Output[str]
    """Group of every task."""

    def __init__(self, name: str, args: TaskNetworkArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:TaskNetwork", name, None, opts)
        child = ResourceOptions(parent=self)
        group_name = args.scope.name(name, limit=255)
        tags = args.scope.tags(group_name)
        group = aws.ec2.SecurityGroup(
            name,
            name=group_name,
            description="Tasks of the app on ECS",
            vpc_id=args.vpc_id,
            tags=tags,
            opts=child,
        )
        out = {
            f"database-{number}": (args.database_port, cidr) for number, cidr in enumerate(args.data_cidrs)
        }
        out["https"] = (443, "0.0.0.0/0")
        for use, (port, cidr) in out.items():
            aws.vpc.SecurityGroupEgressRule(
                f"{name}-{use}",
                security_group_id=group.id,
                description="HTTPS to AWS's services" if use == "https" else "The database",
                ip_protocol="tcp",
                from_port=port,
                to_port=port,
                cidr_ipv4=cidr,
                tags=tags,
                opts=child,
            )
        self.security_group_id = group.id
        self.register_outputs({"security_group_id": self.security_group_id})


@dataclass(frozen=True)
class ContainersArgs:
    """The ECS cluster of a stack and what runs in it."""

    scope: Scope
    """Names and account."""
    image: Input[str]
    """Image of the app, by digest."""
    repository_arn: Input[str]
    """Repository of the image."""
    architecture: Literal["ARM64", "X86_64"]
    """Architecture of the image."""
    roles: Sequence[ContainerRole]
    """Services and jobs."""
    vpc_id: Input[str]
    """VPC of the tasks."""
    subnet_ids: Sequence[Input[str]]
    """Private subnets, one for each zone."""
    client_cidr: str
    """Addresses that may reach the services: those of the VPC."""
    security_group_id: Input[str]
    """Group of the tasks, from `TaskNetwork`."""
    key_arn: Input[str]
    """Key of the sessions of `ecs execute-command`."""
    secret_key_arn: Input[str]
    """Key of the secrets."""
    messaging_key_arn: Input[str]
    """Key of the queue of dead letters."""
    log_key_arn: Input[str]
    """Key of the log groups."""
    log_days: int
    """Days for which logs are kept."""
    log_bucket: Input[str]
    """Bucket of access logs."""
    alerts_topic_arn: Input[str]
    """Where alarms go."""
    minimum: int = 1
    """Fewest tasks of a service."""
    maximum: int = 2
    """Most tasks of a service, at least `minimum`."""
    deletion_protection: bool = True
    """Refuses to delete the load balancers."""
    queue_names: Mapping[str, str] | None = None
    """Queue of the role table → its name, for services that scale with it."""

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.maximum:
            raise ValueError(f"minimum {self.minimum}, maximum {self.maximum}: 1 <= minimum <= maximum")
        for item in self.roles:
            if item.role.kind not in (Kind.SERVICE, Kind.JOB):
                raise ValueError(f"role '{item.role.name}' is a {item.role.kind}, not a service or job")


class Containers(ComponentResource):
    """A cluster with services that CodeDeploy rolls out and jobs that a schedule starts."""

    cluster_name: str
    """Name of the cluster."""
    cluster_arn: Output[str]
    """ARN of the cluster."""
    service_names: dict[str, str]
    """Role → name of its service."""
    rollouts: dict[str, Rollout]
    """Role → what a pipeline needs to roll its service out."""
    role_arns: list[Output[str]]
    """Roles of all tasks, which whoever registers a new revision of them passes on."""
    task_definitions: dict[str, Output[str]]
    """Role → ARN of its task definition."""

    def __init__(self, name: str, args: ContainersArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Containers", name, None, opts)
        self._args = args
        self.cluster_name = args.scope.name(name, limit=_NAME_LIMIT)
        self.service_names, self.rollouts, self.task_definitions = {}, {}, {}
        cluster = self._make_cluster(name)
        self.cluster_arn = cluster.arn
        place = TaskPlace(
            scope=args.scope,
            image=args.image,
            repository_arn=args.repository_arn,
            architecture=args.architecture,
            secret_key_arn=args.secret_key_arn,
            log_key_arn=args.log_key_arn,
            log_days=args.log_days,
        )
        tasks = {item.role.name: make_task(place, item, parent=self) for item in args.roles}
        self.task_definitions = {role: task.arn for role, task in tasks.items()}
        self.role_arns = [arn for task in tasks.values() for arn in task.role_arns]
        for item in args.roles:
            if item.role.kind is Kind.SERVICE:
                self._make_service(item, tasks[item.role.name], cluster)
        self._make_jobs(name, tasks)
        self.register_outputs(
            {
                "cluster_name": self.cluster_name,
                "service_names": self.service_names,
                # Their text is unknown as a whole while one ARN in it is.
                "documents": {
                    f"{role}.containerDefinitions": task.containers for role, task in tasks.items()
                },
            }
        )

    def _make_cluster(self, name: str) -> aws.ecs.Cluster:
        args, child = self._args, ResourceOptions(parent=self)
        log_name = f"/aws/ecs/{self.cluster_name}/sessions"
        logs = aws.cloudwatch.LogGroup(
            f"{name}-sessions",
            name=log_name,
            kms_key_id=args.log_key_arn,
            retention_in_days=args.log_days,
            tags=args.scope.tags(log_name),
            opts=child,
        )
        cluster = aws.ecs.Cluster(
            name,
            name=self.cluster_name,
            settings=[{"name": "containerInsights", "value": "enhanced"}],
            configuration={
                "execute_command_configuration": {
                    "kms_key_id": args.key_arn,
                    "logging": "OVERRIDE",
                    "log_configuration": {
                        "cloud_watch_encryption_enabled": True,
                        "cloud_watch_log_group_name": logs.name,
                    },
                }
            },
            tags=args.scope.tags(self.cluster_name),
            opts=child,
        )
        aws.ecs.ClusterCapacityProviders(
            name, cluster_name=cluster.name, capacity_providers=["FARGATE"], opts=child
        )
        return cluster

    def _make_service(self, item: ContainerRole, task: TaskParts, cluster: aws.ecs.Cluster) -> None:
        args, role = self._args, item.role
        if role.port is None:
            raise ValueError(f"service '{role.name}' has no port, which its health checks need")
        service_name = args.scope.name(role.name, limit=_NAME_LIMIT)
        front = make_front(
            role.name,
            FrontArgs(
                scope=args.scope,
                vpc_id=args.vpc_id,
                subnet_ids=args.subnet_ids,
                client_cidr=args.client_cidr,
                port=role.port,
                task_group_id=args.security_group_id,
                log_bucket=args.log_bucket,
                alerts_topic_arn=args.alerts_topic_arn,
                deletion_protection=args.deletion_protection,
            ),
            parent=self,
        )
        service = aws.ecs.Service(
            role.name,
            name=service_name,
            cluster=cluster.arn,
            task_definition=task.arn,
            desired_count=args.minimum,
            launch_type="FARGATE",
            platform_version="LATEST",
            deployment_controller={"type": "CODE_DEPLOY"},
            network_configuration={
                "subnets": list(args.subnet_ids),
                "security_groups": [args.security_group_id],
                "assign_public_ip": False,
            },
            load_balancers=[
                {
                    "target_group_arn": front.target_group_arn,
                    "container_name": role.name,
                    "container_port": role.port,
                }
            ],
            health_check_grace_period_seconds=60,
            enable_ecs_managed_tags=True,
            propagate_tags="SERVICE",
            tags=args.scope.tags(service_name),
            # CodeDeploy owns what runs and where requests go, the autoscaler how many tasks there are.
            opts=ResourceOptions(
                parent=self,
                delete_before_replace=True,
                ignore_changes=["task_definition", "load_balancers", "desired_count"],
            ),
        )
        rollout = RolloutArgs(
            scope=args.scope,
            cluster=self.cluster_name,
            service=service.name,
            service_name=service_name,
            front=front,
            passed_role_arns=task.role_arns,
        )
        self.service_names[role.name] = service_name
        deployment = make_rollout(role.name, rollout, parent=self)
        self.rollouts[role.name] = Rollout(deployment, deployment, task.family, role.name, role.port)
        self._scale(item, service, service_name)

    def _scale(self, item: ContainerRole, service: aws.ecs.Service, service_name: str) -> None:
        args, name, child = self._args, item.role.name, ResourceOptions(parent=self)
        target = aws.appautoscaling.Target(
            name,
            service_namespace="ecs",
            resource_id=Output.concat("service/", self.cluster_name, "/", service.name),
            scalable_dimension="ecs:service:DesiredCount",
            min_capacity=args.minimum,
            max_capacity=args.maximum,
            tags=args.scope.tags(service_name),
            opts=child,
        )
        metrics: dict[str, aws.appautoscaling.PolicyTargetTrackingScalingPolicyConfigurationArgsDict] = {
            "cpu": {
                "target_value": _CPU_PERCENT,
                "predefined_metric_specification": {
                    "predefined_metric_type": "ECSServiceAverageCPUUtilization"
                },
            }
        }
        queue_name = (args.queue_names or {}).get(item.role.queue or "")
        if queue_name is not None:
            metrics["backlog"] = {
                "target_value": _BACKLOG,
                "customized_metric_specification": {
                    "namespace": "AWS/SQS",
                    "metric_name": "ApproximateNumberOfMessagesVisible",
                    "statistic": "Average",
                    "dimensions": [{"name": "QueueName", "value": queue_name}],
                },
            }
        for metric, tracking in metrics.items():
            aws.appautoscaling.Policy(
                f"{name}-{metric}",
                name=args.scope.name(name, metric, limit=255),
                policy_type="TargetTrackingScaling",
                service_namespace=target.service_namespace,
                resource_id=target.resource_id,
                scalable_dimension=target.scalable_dimension,
                target_tracking_scaling_policy_configuration={
                    **tracking,
                    "scale_out_cooldown": 60,
                    "scale_in_cooldown": 300,
                },
                opts=child,
            )
        make_alarm(
            f"{name}-tasks",
            Alarm(
                "ECS/ContainerInsights",
                "RunningTaskCount",
                {"ClusterName": self.cluster_name, "ServiceName": service_name},
                below=args.minimum,
                statistic="Minimum",
                missing="breaching",
            ),
            scope=args.scope,
            topic_arn=args.alerts_topic_arn,
            what=f"Fewer than {args.minimum} tasks of {service_name} run",
            parent=self,
        )

    def _make_jobs(self, name: str, tasks: Mapping[str, TaskParts]) -> None:
        args = self._args
        jobs = [item.role for item in args.roles if item.role.kind is Kind.JOB]
        if not jobs:
            return
        dead = make_dead_letters(
            f"{name}-dead",
            scope=args.scope,
            key_arn=args.messaging_key_arn,
            alerts_topic_arn=args.alerts_topic_arn,
            parent=self,
        )
        place = JobPlace(
            scope=args.scope,
            cluster_name=self.cluster_name,
            cluster_arn=self.cluster_arn,
            subnet_ids=args.subnet_ids,
            security_group_id=args.security_group_id,
            key_arn=args.key_arn,
            messaging_key_arn=args.messaging_key_arn,
            dead_letter_arn=dead.arn,
        )
        for role in jobs:
            make_job(place, role, tasks[role.name], parent=self)
