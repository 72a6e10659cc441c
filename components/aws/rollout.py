"""Blue-green rollout of a service on ECS: two target groups, two listeners, CodeDeploy between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import Input, Output, Resource, ResourceOptions

from components.aws.alerts import Alarm, make_alarm
from components.aws.identity import Role, RoleArgs, Statement, trust
from components.aws.scope import Scope

_LIMIT = 32
"""Most characters of the name of a load balancer or target group."""
_COLOURS = ("blue", "green")
_KEEP_OLD_MINUTES = 5
_DRAIN_SECONDS = 30


@dataclass(frozen=True)
class Front:
    """The load balancer before a service."""

    target_group_arn: Output[str]
    """The group that the first tasks join."""
    target_group_names: tuple[str, str]
    """Blue and green."""
    listener_arns: tuple[Output[str], Output[str]]
    """For requests, and for the tests of what is about to take them."""
    alarms: tuple[aws.cloudwatch.MetricAlarm, ...]
    """Alarms that end a rollout."""
    security_group_id: Output[str]
    """Group of the load balancer."""


@dataclass(frozen=True)
class FrontArgs:
    """Where the load balancer of a service stands."""

    scope: Scope
    """Names and account."""
    vpc_id: Input[str]
    """VPC of service and load balancer."""
    subnet_ids: Sequence[Input[str]]
    """Private subnets, one for each zone."""
    client_cidr: str
    """Addresses that may reach the service: those of the VPC."""
    port: int
    """Port of the service; the one after it is for the tests during a rollout."""
    task_group_id: Input[str]
    """Security group of the tasks."""
    log_bucket: Input[str]
    """Bucket of the access logs, which are below `nlb/`."""
    alerts_topic_arn: Input[str]
    """Where alarms go."""
    deletion_protection: bool
    """Refuses to delete the load balancer."""


def make_front(name: str, args: FrontArgs, *, parent: Resource) -> Front:
    """An internal load balancer with listeners for requests and for tests."""
    scope = args.scope
    unique = ResourceOptions(parent=parent, delete_before_replace=True)
    group = _security_group(name, args, parent)
    balancer_name = scope.name(name, limit=_LIMIT)
    balancer = aws.lb.LoadBalancer(
        name,
        name=balancer_name,
        load_balancer_type="network",
        internal=True,
        subnets=list(args.subnet_ids),
        security_groups=[group],
        enable_cross_zone_load_balancing=True,
        enable_deletion_protection=args.deletion_protection,
        access_logs={"bucket": args.log_bucket, "prefix": "nlb", "enabled": True},
        tags=scope.tags(balancer_name),
        opts=unique,
    )
    targets, alarms = [], []
    names = tuple(scope.name(name, colour, limit=_LIMIT) for colour in _COLOURS)
    for colour, target_name in zip(_COLOURS, names, strict=True):
        target = aws.lb.TargetGroup(
            f"{name}-{colour}",
            name=target_name,
            vpc_id=args.vpc_id,
            target_type="ip",
            protocol="TCP",
            port=args.port,
            deregistration_delay=_DRAIN_SECONDS,
            health_check={
                "protocol": "HTTP",
                "path": "/readyz",
                "port": "traffic-port",
                "matcher": "200",
                "interval": 10,
                "timeout": 5,
                "healthy_threshold": 2,
                "unhealthy_threshold": 3,
            },
            tags=scope.tags(target_name),
            opts=unique,
        )
        targets.append(target)
        alarm = make_alarm(
            f"{name}-{colour}-unhealthy",
            Alarm(
                "AWS/NetworkELB",
                "UnHealthyHostCount",
                {"TargetGroup": target.arn_suffix, "LoadBalancer": balancer.arn_suffix},
                above=0,
                statistic="Maximum",
                periods=3,
            ),
            scope=scope,
            topic_arn=args.alerts_topic_arn,
            what=f"Tasks of {name} ({colour}) do not answer that they are ready",
            parent=parent,
        )
        alarms.append(alarm)
    blue, green = targets
    listeners = [
        aws.lb.Listener(
            f"{name}-{use}",
            load_balancer_arn=balancer.arn,
            port=port,
            protocol="TCP",
            default_actions=[{"type": "forward", "target_group_arn": target.arn}],
            tags=scope.tags(scope.name(name, use, limit=255)),
            # CodeDeploy turns the listeners to the other target group with every rollout.
            opts=ResourceOptions(parent=parent, ignore_changes=["default_actions"]),
        )
        for use, port, target in (("requests", args.port, blue), ("tests", args.port + 1, green))
    ]
    ready = Output.all(blue.arn, *(listener.arn for listener in listeners))
    return Front(
        # A service is refused until its target group hangs on a load balancer.
        target_group_arn=ready.apply(lambda arns: str(arns[0])),
        target_group_names=(names[0], names[1]),
        listener_arns=(listeners[0].arn, listeners[1].arn),
        alarms=tuple(alarms),
        security_group_id=group,
    )


def _security_group(name: str, args: FrontArgs, parent: Resource) -> Output[str]:
    scope, child = args.scope, ResourceOptions(parent=parent)
    group_name = scope.name(name, "front", limit=255)
    group = aws.ec2.SecurityGroup(
        f"{name}-front",
        name=group_name,
        description=f"Load balancer of {name}",
        vpc_id=args.vpc_id,
        tags=scope.tags(group_name),
        opts=child,
    )
    for use, port in (("requests", args.port), ("tests", args.port + 1)):
        aws.vpc.SecurityGroupIngressRule(
            f"{name}-front-{use}",
            security_group_id=group.id,
            description=f"{use} from the network",
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            cidr_ipv4=args.client_cidr,
            tags=scope.tags(group_name),
            opts=child,
        )
    aws.vpc.SecurityGroupEgressRule(
        f"{name}-front-tasks",
        security_group_id=group.id,
        description="Requests and health checks to the tasks",
        ip_protocol="tcp",
        from_port=args.port,
        to_port=args.port,
        referenced_security_group_id=args.task_group_id,
        tags=scope.tags(group_name),
        opts=child,
    )
    aws.vpc.SecurityGroupIngressRule(
        f"{name}-tasks",
        security_group_id=args.task_group_id,
        description=f"Requests and health checks of {name}",
        ip_protocol="tcp",
        from_port=args.port,
        to_port=args.port,
        referenced_security_group_id=group.id,
        tags=scope.tags(group_name),
        opts=child,
    )
    return group.id


@dataclass(frozen=True)
class RolloutArgs:
    """A service and what CodeDeploy needs to know of it."""

    scope: Scope
    """Names and account."""
    cluster: str
    """Name of the ECS cluster."""
    service: Input[str]
    """Name of the service, known once it exists."""
    service_name: str
    """The same name, for permissions."""
    front: Front
    """Its load balancer."""
    passed_role_arns: Sequence[Input[str]]
    """Roles of its tasks."""


def make_rollout(name: str, args: RolloutArgs, *, parent: Resource) -> str:
    """CodeDeploy's application and deployment group of the same name, which is returned.

    A new set of tasks takes over when it is healthy and the old one stays for five minutes; an alarm or a
    failure leads back to it. A rollout that is to cure an alarm has to say so (`overrideAlarmConfiguration`).
    """
    scope, child = args.scope, ResourceOptions(parent=parent)
    deployment_name = scope.name(name, limit=100)
    tags = scope.tags(deployment_name)
    role = Role(
        f"rollout-{name}",
        RoleArgs(scope, trust("codedeploy.amazonaws.com", scope), _permissions(args)),
        child,
    )
    application = aws.codedeploy.Application(
        name, name=deployment_name, compute_platform="ECS", tags=tags, opts=child
    )
    requests, tests = args.front.listener_arns
    aws.codedeploy.DeploymentGroup(
        name,
        app_name=application.name,
        deployment_group_name=deployment_name,
        service_role_arn=role.arn,
        # Before a network load balancer all requests move at once; there is no canary.
        deployment_config_name="CodeDeployDefault.ECSAllAtOnce",
        deployment_style={
            "deployment_option": "WITH_TRAFFIC_CONTROL",
            "deployment_type": "BLUE_GREEN",
        },
        ecs_service={"cluster_name": args.cluster, "service_name": args.service},
        load_balancer_info={
            "target_group_pair_info": {
                "prod_traffic_route": {"listener_arns": [requests]},
                "test_traffic_route": {"listener_arns": [tests]},
                "target_groups": [{"name": target} for target in args.front.target_group_names],
            }
        },
        blue_green_deployment_config={
            "deployment_ready_option": {"action_on_timeout": "CONTINUE_DEPLOYMENT"},
            "terminate_blue_instances_on_deployment_success": {
                "action": "TERMINATE",
                "termination_wait_time_in_minutes": _KEEP_OLD_MINUTES,
            },
        },
        alarm_configuration={"enabled": True, "alarms": [alarm.name for alarm in args.front.alarms]},
        auto_rollback_configuration={
            "enabled": True,
            "events": ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_STOP_ON_REQUEST"],
        },
        tags=tags,
        opts=child,
    )
    return deployment_name


def _permissions(args: RolloutArgs) -> list[Statement]:
    scope, place = args.scope, f"{args.cluster}/{args.service_name}"
    service = scope.arn("ecs", f"service/{place}")
    task_sets = scope.arn("ecs", f"task-set/{place}/*")
    return [
        Statement(
            ("ecs:CreateTaskSet", "ecs:DescribeServices", "ecs:UpdateServicePrimaryTaskSet"), (service,)
        ),
        Statement(
            ("ecs:CreateTaskSet", "ecs:DeleteTaskSet", "ecs:UpdateServicePrimaryTaskSet"), (task_sets,)
        ),
        Statement(
            (
                "elasticloadbalancing:DescribeListeners",
                "elasticloadbalancing:DescribeRules",
                "elasticloadbalancing:DescribeTargetGroups",
            ),
            ("*",),
        ),
        Statement(("elasticloadbalancing:ModifyListener",), args.front.listener_arns),
        Statement(
            ("cloudwatch:DescribeAlarms",),
            [alarm.arn for alarm in args.front.alarms],
        ),
        Statement(
            ("iam:PassRole",),
            args.passed_role_arns,
            {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
        ),
    ]
