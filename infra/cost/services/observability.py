"""Logs, alarms, dashboards, trails and traces."""

import re
from collections.abc import Iterator
from decimal import Decimal

from infra.cost.context import Charge, Context, count, use
from infra.cost.inputs import Inputs
from infra.cost.model import ZERO

LOG_GROUP = "aws:cloudwatch/logGroup:LogGroup"
SAMPLING_RULE = "aws:xray/samplingRule:SamplingRule"

_KINDS = (
    ("flow_log_gb", re.compile(r"flow"), True),
    ("insights_log_gb", re.compile(r"/aws/containerinsights/.*/(dataplane|host|performance)"), True),
    ("container_log_gb", re.compile(r"/aws/containerinsights/|application"), True),
    ("cluster_log_gb", re.compile(r"/aws/eks/"), False),
    ("audit_log_gb", re.compile(r"/aws/cloudtrail/"), False),
    ("waf_log_gb", re.compile(r"waf"), False),
)
"""Assumption, pattern of the log group's name, and whether its size goes with the nodes."""


def log_group(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Logs written in a month, and those kept as long as the group says; without an end, for a year."""
    name = _kind(inputs)
    written = context.usage.take(name, _times(name, context))
    item = "infrequent" if inputs.text("logGroupClass", "STANDARD") == "INFREQUENT_ACCESS" else "standard"
    yield Charge("logs written", written, context.price("logs", item), assumption=name)
    days = inputs.number("retentionInDays", 0) or Decimal(365)
    kept = written * days / Decimal("30.4")
    yield Charge(f"logs kept {days} days", kept, context.price("logs", "storage"), assumption=name)
    if inputs.text("name", "").endswith("/performance"):
        price = context.price("cloudwatch", "metric")
        yield use(context, "insights_metrics", price, "metrics of Container Insights", context.nodes)


def _kind(inputs: Inputs) -> str:
    name = f"{inputs.text('name', '')} {inputs.resource.name}".lower()
    return next((kind for kind, pattern, _ in _KINDS if pattern.search(name)), "other_log_gb")


def _times(kind: str, context: Context) -> Decimal:
    if not any(name == kind and by_node for name, _, by_node in _KINDS):
        return Decimal(1)
    groups = (context.inputs(resource) for resource in context.of_type(LOG_GROUP))
    return context.nodes / count(group for group in groups if _kind(group) == kind)


def alarm(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """An alarm, by the metrics it looks at and how often."""
    queries = inputs.items("metricQueries")
    metrics = Decimal(sum(1 for query in queries if query.get("metric")) or 1)
    is_fast = inputs.number("period", 60) < 60
    item = "alarm-high-resolution" if is_fast else "alarm"
    what = "alarm" if metrics == 1 else f"alarm on {metrics} metrics"
    yield Charge(what, metrics, context.price("cloudwatch", item))


def composite_alarm(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """An alarm over alarms."""
    yield Charge("composite alarm", Decimal(1), context.price("cloudwatch", "composite-alarm"))


def metric_filter(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """The custom metric that a log filter makes."""
    yield Charge("custom metric", Decimal(1), context.price("cloudwatch", "metric"))


def dashboard(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """A dashboard."""
    yield Charge("dashboard", Decimal(1), context.price("cloudwatch", "dashboard"))


def trail(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Data events and insights of a trail; the first copy of management events is free."""
    selectors = [*inputs.items("eventSelectors"), *inputs.items("advancedEventSelectors")]
    if any(_has_data(selector) for selector in selectors):
        events = context.usage.take("data_events_millions") * 10
        price = context.price("cloudtrail", "data-events")
        yield Charge("data events", events, price, assumption="data_events_millions")
    if inputs.items("insightSelectors"):
        kinds = len(inputs.items("insightSelectors"))
        events = context.usage.take("management_events_millions") * 10 * kinds
        price = context.price("cloudtrail", "insights")
        yield Charge("events looked at", events, price, assumption="management_events_millions")


def _has_data(selector: dict[str, object]) -> bool:
    return bool(selector.get("dataResources")) or "Data" in str(selector.get("fieldSelectors", ""))


def sampling_rule(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Traces recorded; however many rules there are, a request is recorded once."""
    share = context.nodes / count(context.of_type(SAMPLING_RULE)) if context.nodes else ZERO
    yield use(context, "traces_millions", context.price("xray", "traces"), "traces recorded", share)
