"""How Terraform spells what Pulumi's AWS provider calls otherwise; everything else follows a rule."""

import re

_TYPES = {
    "aws:amp/workspace:Workspace": "aws_prometheus_workspace",
    "aws:cloudtrail/trail:Trail": "aws_cloudtrail",
    "aws:codedeploy/application:Application": "aws_codedeploy_app",
    "aws:codepipeline/pipeline:Pipeline": "aws_codepipeline",
    "aws:costexplorer/anomalyMonitor:AnomalyMonitor": "aws_ce_anomaly_monitor",
    "aws:costexplorer/anomalySubscription:AnomalySubscription": "aws_ce_anomaly_subscription",
    "aws:costexplorer/costAllocationTag:CostAllocationTag": "aws_ce_cost_allocation_tag",
    "aws:lb/loadBalancer:LoadBalancer": "aws_lb",
}
"""Types that no rule gives."""

_MODULES = {
    "cfg": "config_",
    "ec2": "",
    "rds": "db_",
    "servicediscovery": "service_discovery_",
}
"""Prefix of a module's types where it is not the module's own name."""

_PLURALS = frozenset(
    {
        "block_device_mappings",
        "columns",
        "constraints",
        "license_specifications",
        "network_interfaces",
        "partition_keys",
        "processors",
        "redacted_fields",
        "tag_specifications",
    }
)
"""Lists of blocks that Terraform names in the plural too."""

_PLURALS_OF_TYPE = {
    ("aws_appautoscaling_policy", "dimensions"),
    ("aws_kinesis_firehose_delivery_stream", "parameters"),
}

_IRREGULAR = {
    "aliases": "alias",
    "egress": "egress",
    "ingress": "ingress",
    "indices": "index",
    "addresses": "address",
    "statuses": "status",
}

_MAPS = frozenset(
    {
        "attributes",
        "dimensions",
        "labels",
        "parameters",
        "recovery_point_tags",
        "restore_metadata_overrides",
        "tags",
        "variables",
    }
)
_MAPS_OF_TYPE = {("aws_codepipeline", "configuration")}
"""Inputs whose keys are anybody's: they keep their spelling and are no blocks."""

_ATTRIBUTES = {
    ("aws_ce_anomaly_subscription", "monitor_arn_lists"): "monitor_arn_list",
    ("aws_cloudwatch_metric_alarm", "name"): "alarm_name",
    ("aws_lambda_function", "code"): "filename",
    ("aws_lambda_function", "commands"): "command",
    ("aws_lambda_function", "entry_points"): "entry_point",
    ("aws_lambda_function", "name"): "function_name",
    ("aws_lambda_permission", "function"): "function_name",
    ("aws_sns_topic_subscription", "topic"): "topic_arn",
}
"""Attributes that Pulumi renames, by Terraform's type and the name that the rule gives."""


def type_name(token: str) -> str:
    """Terraform's name of a type, such as `aws_db_instance` for `aws:rds/instance:Instance`."""
    if token in _TYPES:
        return _TYPES[token]
    _, path, kind = token.split(":")
    module = path.split("/", 1)[0]
    return f"aws_{_MODULES.get(module, f'{module}_')}{snake(kind)}"


def attribute(type_: str, name: str, *, blocks: bool) -> str:
    """Terraform's name of the input `name`; `blocks` where its value is a list of objects."""
    plain = snake(name)
    if (type_, plain) in _ATTRIBUTES:
        return _ATTRIBUTES[type_, plain]
    if blocks and plain not in _PLURALS and (type_, plain) not in _PLURALS_OF_TYPE:
        return _singular(plain)
    return plain


def is_map(type_: str, name: str) -> bool:
    """Whether the keys of the attribute `name` are anybody's, so that it is no block."""
    return name in _MAPS or (type_, name) in _MAPS_OF_TYPE


def snake(name: str) -> str:
    """`camelCase` as `camel_case`."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _singular(name: str) -> str:
    head, _, last = name.rpartition("_")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith("ies"):
        last = f"{last[:-3]}y"
    elif last.endswith("s") and not last.endswith("ss"):
        last = last[:-1]
    return f"{head}_{last}" if head else last
