"""Dashboards as data: the widgets of each service and the document that CloudWatch shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pulumi import Input

_COLUMNS = 24
_PER_ROW = 3
_HEIGHT = 6
_HEADING_HEIGHT = 1
_ALARMS_HEIGHT = 3
_MAX_WIDGETS = 500
"""CloudWatch's own limit for one dashboard."""


@dataclass(frozen=True)
class Metric:
    """One line of a graph."""

    namespace: str
    """Namespace, such as `AWS/RDS`."""
    name: str
    """Name of the metric."""
    dimensions: Mapping[str, Input[str]]
    """Dimensions that name the resource."""
    statistic: str = "Average"
    """`Average`, `Sum`, `Maximum`, `Minimum` or a percentile such as `p99`."""
    label: str | None = None
    """Legend; CloudWatch's own by default."""


@dataclass(frozen=True)
class Graph:
    """A graph over time."""

    title: str
    """Heading of the graph, with its unit."""
    metrics: Sequence[Metric]
    """Its lines, at least one."""
    limit: float | None = None
    """A horizontal line, in the unit of the metrics."""


@dataclass(frozen=True)
class Section:
    """A heading and the graphs under it."""

    title: str
    """Heading."""
    graphs: Sequence[Graph]
    """Graphs, three to a row."""


@dataclass(frozen=True)
class Dashboard:
    """Everything on one dashboard."""

    title: str
    """First line."""
    region: str
    """Region of all metrics."""
    sections: Sequence[Section]
    """Sections from top to bottom; those without graphs are left out."""
    alarm_arns: Sequence[str] = ()
    """Alarms whose state is shown on top."""
    period_seconds: int = 60
    """Length of a period in every graph."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Further pages by their title, linked in the first line."""


def dashboard_body(dashboard: Dashboard) -> dict[str, Any]:
    """The document of the dashboard; values that are outputs stay outputs.

    Raises:
        ValueError: more widgets than one dashboard may have.
    """
    links = "".join(f" · [{title}]({url})" for title, url in dashboard.links.items())
    widgets = [_text(f"# {dashboard.title}{links}", 0)]
    top = _HEADING_HEIGHT
    if dashboard.alarm_arns:
        widgets.append(_alarms(dashboard.alarm_arns, top))
        top += _ALARMS_HEIGHT
    for section in dashboard.sections:
        if not section.graphs:
            continue
        widgets.append(_text(f"## {section.title}", top))
        top += _HEADING_HEIGHT
        width = _COLUMNS // _PER_ROW
        for number, graph in enumerate(section.graphs):
            row, column = divmod(number, _PER_ROW)
            place = {"x": column * width, "y": top + row * _HEIGHT, "width": width, "height": _HEIGHT}
            widgets.append({"type": "metric", **place, "properties": _graph(graph, dashboard)})
        top += -(-len(section.graphs) // _PER_ROW) * _HEIGHT
    if len(widgets) > _MAX_WIDGETS:
        raise ValueError(
            f"dashboard '{dashboard.title}': {len(widgets)} widgets, at most {_MAX_WIDGETS} are allowed"
        )
    return {"widgets": widgets}


def load_balancer_section(load_balancer: Input[str], target_group: Input[str]) -> Section:
    """The public load balancer; both arguments are ARN suffixes, as CloudWatch names them."""

    def line(name: str, statistic: str, **more: Input[str]) -> Metric:
        return Metric("AWS/ApplicationELB", name, {"LoadBalancer": load_balancer, **more}, statistic)

    codes = ("HTTPCode_ELB_5XX_Count", "HTTPCode_Target_5XX_Count", "HTTPCode_Target_4XX_Count")
    return Section(
        "Load balancer",
        (
            Graph("Requests", (line("RequestCount", "Sum"), line("ActiveConnectionCount", "Sum"))),
            Graph("Errors", tuple(line(code, "Sum") for code in codes)),
            Graph(
                "Response time in seconds",
                tuple(line("TargetResponseTime", statistic) for statistic in ("p50", "p99")),
            ),
            Graph(
                "Targets",
                (
                    line("HealthyHostCount", "Minimum", TargetGroup=target_group),
                    line("UnHealthyHostCount", "Maximum", TargetGroup=target_group),
                ),
            ),
        ),
    )


def cluster_section(cluster: str, namespaces: Sequence[str]) -> Section:
    """The EKS cluster, from Container Insights."""

    def line(name: str, statistic: str = "Average", **more: str) -> Metric:
        return Metric("ContainerInsights", name, {"ClusterName": cluster, **more}, statistic)

    pods = tuple(line("namespace_number_of_running_pods", Namespace=namespace) for namespace in namespaces)
    return Section(
        "Cluster",
        (
            Graph("Nodes", (line("cluster_node_count"), line("cluster_failed_node_count", "Maximum"))),
            Graph("Node use in %", (line("node_cpu_utilization"), line("node_memory_utilization"))),
            *((Graph("Running pods", pods),) if pods else ()),
        ),
    )


def database_section(identifiers: Sequence[str]) -> Section:
    """RDS instances by identifier."""

    def graph(title: str, *names: str) -> Graph:
        lines = tuple(
            Metric("AWS/RDS", name, {"DBInstanceIdentifier": identifier})
            for identifier in identifiers
            for name in names
        )
        return Graph(title, lines)

    graphs = (
        graph("CPU in %", "CPUUtilization"),
        graph("Connections", "DatabaseConnections"),
        graph("Latency in seconds", "ReadLatency", "WriteLatency"),
        graph("Free storage in bytes", "FreeStorageSpace"),
        graph("Free memory in bytes", "FreeableMemory"),
        graph("Replica lag in seconds", "ReplicaLag"),
    )
    return Section("Database", graphs if identifiers else ())


def cache_section(nodes: Sequence[str]) -> Section:
    """ElastiCache nodes by cache cluster id."""

    def graph(title: str, name: str) -> Graph:
        return Graph(
            title, tuple(Metric("AWS/ElastiCache", name, {"CacheClusterId": node}) for node in nodes)
        )

    graphs = (
        graph("Engine CPU in %", "EngineCPUUtilization"),
        graph("Memory in %", "DatabaseMemoryUsagePercentage"),
        graph("Evictions", "Evictions"),
    )
    return Section("Cache", graphs if nodes else ())


def streaming_section(cluster: str, brokers: int) -> Section:
    """An MSK cluster with brokers 1 to `brokers`."""

    def graph(title: str, *names: str) -> Graph:
        lines = tuple(
            Metric("AWS/Kafka", name, {"Cluster Name": cluster, "Broker ID": str(number)})
            for number in range(1, brokers + 1)
            for name in names
        )
        return Graph(title, lines)

    health = tuple(
        Metric("AWS/Kafka", name, {"Cluster Name": cluster}, "Maximum")
        for name in ("ActiveControllerCount", "OfflinePartitionsCount")
    )
    return Section(
        "Kafka",
        (
            Graph("Health", health),
            graph("Traffic in bytes per second", "BytesInPerSec", "BytesOutPerSec"),
            graph("Disk in %", "KafkaDataLogsDiskUsed"),
            graph("Under-replicated partitions", "UnderReplicatedPartitions"),
        ),
    )


def queue_section(queues: Sequence[str]) -> Section:
    """SQS queues by name."""

    def graph(title: str, name: str, statistic: str) -> Graph:
        return Graph(
            title, tuple(Metric("AWS/SQS", name, {"QueueName": queue}, statistic) for queue in queues)
        )

    graphs = (
        graph("Waiting messages", "ApproximateNumberOfMessagesVisible", "Maximum"),
        graph("Oldest message in seconds", "ApproximateAgeOfOldestMessage", "Maximum"),
    )
    return Section("Queues", graphs if queues else ())


def function_section(functions: Sequence[str]) -> Section:
    """Lambda functions by name."""

    def graph(title: str, name: str, statistic: str) -> Graph:
        lines = (Metric("AWS/Lambda", name, {"FunctionName": item}, statistic) for item in functions)
        return Graph(title, tuple(lines))

    graphs = (
        graph("Invocations", "Invocations", "Sum"),
        graph("Errors", "Errors", "Sum"),
        graph("Duration in milliseconds (p99)", "Duration", "p99"),
    )
    return Section("Functions", graphs if functions else ())


def stream_section(streams: Sequence[str]) -> Section:
    """Kinesis streams by name."""

    def graph(title: str, name: str, statistic: str) -> Graph:
        return Graph(
            title, tuple(Metric("AWS/Kinesis", name, {"StreamName": item}, statistic) for item in streams)
        )

    graphs = (
        graph("Records", "IncomingRecords", "Sum"),
        graph("Age of the reader in milliseconds", "GetRecords.IteratorAgeMilliseconds", "Maximum"),
        graph("Refused writes", "WriteProvisionedThroughputExceeded", "Sum"),
    )
    return Section("Analytics stream", graphs if streams else ())


def _text(markdown: str, top: int) -> dict[str, Any]:
    place = {"x": 0, "y": top, "width": _COLUMNS, "height": _HEADING_HEIGHT}
    return {"type": "text", **place, "properties": {"markdown": markdown}}


def _alarms(arns: Sequence[str], top: int) -> dict[str, Any]:
    place = {"x": 0, "y": top, "width": _COLUMNS, "height": _ALARMS_HEIGHT}
    return {"type": "alarm", **place, "properties": {"title": "Alarms", "alarms": list(arns)}}


def _graph(graph: Graph, dashboard: Dashboard) -> dict[str, Any]:
    found: dict[str, Any] = {
        "title": graph.title,
        "region": dashboard.region,
        "view": "timeSeries",
        "period": dashboard.period_seconds,
        "metrics": [_line(metric) for metric in graph.metrics],
    }
    if graph.limit is not None:
        found["annotations"] = {"horizontal": [{"label": "limit", "value": graph.limit}]}
    return found


def _line(metric: Metric) -> list[Any]:
    options = {"stat": metric.statistic} | ({"label": metric.label} if metric.label else {})
    pairs = [part for pair in metric.dimensions.items() for part in pair]
    return [metric.namespace, metric.name, *pairs, options]
