"""Alarms, traces and the dashboard of a stack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions

from components.aws import dashboard
from components.aws.alerts import Alarm, make_alarm
from components.aws.scope import Scope, safe_name

_XRAY_NAME_LIMIT = 32
_ERROR_LEVELS = ("error", "critical")
# Fluent Bit of the CloudWatch add-on puts the fields of a JSON log line below this key.
_LEVEL_FIELD = "$.log_processed.level"


@dataclass(frozen=True)
class LoadBalancer:
    """The load balancer in front of the platform, as CloudWatch names it."""

    load_balancer: Input[str]
    """ARN suffix of the load balancer, `app/<name>/<id>`."""
    target_group: Input[str]
    """ARN suffix of its target group, `targetgroup/<name>/<id>`."""


@dataclass(frozen=True)
class Kafka:
    """The MSK cluster."""

    cluster: str
    """Name of the cluster."""
    brokers: int
    """Number of brokers; their ids begin at 1."""


@dataclass(frozen=True)
class ObservabilityArgs:
    """What is watched, and who hears of it."""

    scope: Scope
    """Names and account."""
    app_log_group: Input[str]
    """Log group of the cluster's pods, known once it exists."""
    alerts_topic_arn: Input[str]
    """Topic that hears of alarms."""
    cluster: str
    """Name of the EKS cluster."""
    namespaces: Sequence[str] = ("trading-system", "trading-data", "trading-monitoring")
    """Namespaces whose pods are counted."""
    load_balancer: LoadBalancer | None = None
    """The public load balancer; None leaves its graphs and alarms out."""
    databases: Sequence[str] = ()
    """Identifiers of RDS instances."""
    cache_nodes: Sequence[str] = ()
    """Cache cluster ids of ElastiCache nodes, from `cache_nodes`."""
    kafka: Kafka | None = None
    """The MSK cluster; None leaves its graphs and alarms out."""
    queues: Sequence[str] = ()
    """Names of SQS queues."""
    functions: Sequence[str] = ()
    """Names of Lambda functions."""
    streams: Sequence[str] = ()
    """Names of Kinesis streams."""
    rests: bool = False
    """Whether nodes and database rest at times: their silence is then no alarm."""
    error_limit: int = 10
    """Error lines of the app in 5 minutes above which it alarms."""
    trace_rate: float = 0.05
    """Share of requests that are traced beyond the first of each second, 0 to 1."""
    slow_seconds: float = 1.0
    """Traces slower than this are in the group of the stack's troubles."""
    trace_key_arn: Input[str] | None = None
    """Key of all traces of the account and region, which has one such setting; None leaves it as it is."""


class Observability(ComponentResource):
    """Metric filters, alarms, trace rules and one dashboard."""

    dashboard_name: str
    """Name of the dashboard."""
    dashboard_url: str
    """Address of the dashboard in the console."""
    alarm_arns: list[str]
    """ARNs of this component's alarms, the composite one first."""

    def __init__(self, name: str, args: ObservabilityArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Observability", name, None, opts)
        scope = args.scope
        errors = self._error_metric(name, args)
        down = down_alarms(args)
        troubles = {"app-errors": (errors, "The app logs errors")}
        watched = _Alarms(f"{name}-alarms", args, down | troubles, ResourceOptions(parent=self))
        composite = scope.name("platform-down", limit=255)
        self._platform_down(composite, down, args, watched)
        names = [composite, *(scope.name(alarm, limit=255) for alarm in (*down, *troubles))]
        self.alarm_arns = [scope.arn("cloudwatch", f"alarm:{alarm}") for alarm in names]
        self._traces(args)
        self.dashboard_name = scope.name("platform", limit=255)
        self.dashboard_url = _console(scope, f"dashboards/dashboard/{self.dashboard_name}")
        body = dashboard.dashboard_body(_dashboard(args, self.alarm_arns))
        aws.cloudwatch.Dashboard(
            name,
            dashboard_name=self.dashboard_name,
            dashboard_body=Output.json_dumps(body),
            opts=ResourceOptions(parent=self),
        )
        # Its text is unknown as a whole while one name in it is.
        documents = {f"{name}.dashboardBody": body}
        self.register_outputs({"dashboard_url": self.dashboard_url, "documents": documents})

    def _error_metric(self, name: str, args: ObservabilityArgs) -> Alarm:
        namespace = f"{args.scope.prefix}/app"
        levels = " || ".join(f'({_LEVEL_FIELD} = "{level}")' for level in _ERROR_LEVELS)
        aws.cloudwatch.LogMetricFilter(
            f"{name}-app-errors",
            name=args.scope.name("app-errors", limit=512),
            log_group_name=args.app_log_group,
            pattern=f"{{ {levels} }}",
            metric_transformation={
                "name": "Errors",
                "namespace": namespace,
                "value": "1",
                "default_value": "0",
                "unit": "Count",
            },
            opts=ResourceOptions(parent=self),
        )
        return Alarm(
            namespace,
            "Errors",
            {},
            above=args.error_limit,
            statistic="Sum",
            period_seconds=300,
            periods=1,
        )

    def _platform_down(
        self,
        alarm: str,
        down: Mapping[str, tuple[Alarm, str]],
        args: ObservabilityArgs,
        watched: Resource,
    ) -> None:
        children = [args.scope.name(child, limit=255) for child in down]
        aws.cloudwatch.CompositeAlarm(
            "platform-down",
            alarm_name=alarm,
            alarm_description="The platform cannot be used: one of the services it cannot do without is down",
            alarm_rule=" OR ".join(f'ALARM("{child}")' for child in children),
            alarm_actions=[args.alerts_topic_arn],
            ok_actions=[args.alerts_topic_arn],
            tags=args.scope.tags(alarm),
            opts=ResourceOptions(parent=self, depends_on=[watched]),
        )

    def _traces(self, args: ObservabilityArgs) -> None:
        child = ResourceOptions(parent=self)
        name = safe_name(args.scope.prefix, limit=_XRAY_NAME_LIMIT)
        aws.xray.SamplingRule(
            "traces",
            rule_name=name,
            version=1,
            priority=1000,
            reservoir_size=1,
            fixed_rate=args.trace_rate,
            host="*",
            http_method="*",
            url_path="*",
            service_name="*",
            service_type="*",
            resource_arn="*",
            tags=args.scope.tags(name),
            opts=child,
        )
        aws.xray.Group(
            "traces",
            group_name=name,
            filter_expression=f"fault = true OR responsetime > {args.slow_seconds:g}",
            insights_configuration={"insights_enabled": True, "notifications_enabled": False},
            tags=args.scope.tags(name),
            opts=child,
        )
        if args.trace_key_arn is not None:
            aws.xray.EncryptionConfig("traces", type="KMS", key_id=args.trace_key_arn, opts=child)


class _Alarms(ComponentResource):
    """Alarms that the composite one waits for: CloudWatch refuses a rule about alarms that do not exist."""

    def __init__(
        self,
        name: str,
        args: ObservabilityArgs,
        alarms: Mapping[str, tuple[Alarm, str]],
        opts: ResourceOptions,
    ) -> None:
        super().__init__("tradestack:aws:Alarms", name, None, opts)
        for key, (alarm, what) in alarms.items():
            make_alarm(key, alarm, scope=args.scope, topic_arn=args.alerts_topic_arn, what=what, parent=self)
        self.register_outputs({})


def cache_nodes(replication_group: str, shards: int, replicas: int, *, cluster_mode: bool) -> list[str]:
    """Cache cluster ids of the nodes of a replication group, as ElastiCache numbers them."""
    members = range(1, replicas + 2)
    if not cluster_mode:
        return [f"{replication_group}-{member:03}" for member in members]
    return [
        f"{replication_group}-{shard:04}-{member:03}" for shard in range(1, shards + 1) for member in members
    ]


def down_alarms(args: ObservabilityArgs) -> dict[str, tuple[Alarm, str]]:
    """What makes the platform unusable: each alarm by name, with the words that say so."""
    silence = "notBreaching" if args.rests else "breaching"
    found = {
        "no-nodes": (
            Alarm(
                "ContainerInsights",
                "cluster_node_count",
                {"ClusterName": args.cluster},
                below=1,
                missing=silence,
            ),
            "The cluster has no node, or tells nothing",
        )
    }
    if args.load_balancer is not None:
        dimensions = {
            "LoadBalancer": args.load_balancer.load_balancer,
            "TargetGroup": args.load_balancer.target_group,
        }
        found["no-healthy-target"] = (
            Alarm(
                "AWS/ApplicationELB",
                "HealthyHostCount",
                dimensions,
                below=1,
                statistic="Maximum",
                periods=2,
                missing=silence,
            ),
            "The load balancer has no healthy target",
        )
    for identifier in () if args.rests else args.databases[:1]:
        # An instance that runs always tells its CPU use; the first one is the primary.
        found["database-silent"] = (
            Alarm(
                "AWS/RDS",
                "CPUUtilization",
                {"DBInstanceIdentifier": identifier},
                below=0,
                missing="breaching",
            ),
            "The database tells nothing: it is down",
        )
    if args.kafka is not None:
        found["kafka-offline-partitions"] = (
            Alarm(
                "AWS/Kafka",
                "OfflinePartitionsCount",
                {"Cluster Name": args.kafka.cluster},
                above=0,
                statistic="Maximum",
                periods=2,
            ),
            "Kafka has partitions that no broker serves",
        )
    return found


def _dashboard(args: ObservabilityArgs, alarm_arns: Sequence[str]) -> dashboard.Dashboard:
    balancer, kafka = args.load_balancer, args.kafka
    sections = [
        *(
            [dashboard.load_balancer_section(balancer.load_balancer, balancer.target_group)]
            if balancer
            else []
        ),
        dashboard.cluster_section(args.cluster, args.namespaces),
        dashboard.database_section(args.databases),
        dashboard.cache_section(args.cache_nodes),
        *([dashboard.streaming_section(kafka.cluster, kafka.brokers)] if kafka else []),
        dashboard.queue_section(args.queues),
        dashboard.function_section(args.functions),
        dashboard.stream_section(args.streams),
    ]
    return dashboard.Dashboard(
        title=args.scope.prefix,
        region=args.scope.region,
        sections=sections,
        alarm_arns=alarm_arns,
        links={"Traces": _console(args.scope, "xray:traces/query")},
    )


def _console(scope: Scope, page: str) -> str:
    where = f"{scope.region}.console.aws.amazon.com/cloudwatch/home?region={scope.region}"
    return f"https://{where}#{page}"
