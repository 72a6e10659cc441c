"""Policy documents whose ARNs only AWS knows, from the statements that their component registered."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from infra.plan.model import UNKNOWN, Plan, PlannedResource

PLACEHOLDER = "arn:aws:service:us-east-1:123456789012:known-after-deployment"
"""What stands for an ARN that AWS has yet to make up."""


def complete(plan: Plan) -> Plan:
    """The plan with every policy that is unknown only for an ARN in it, with a placeholder for that ARN.

    A policy's text is unknown as a whole while one value in it is; its component registers the statements as
    an output of its own. Nothing else changes: all other unknown values stay unknown.
    """
    if not any(_is_unread(item) for item in plan.resources):
        return plan
    return replace(plan, resources=tuple(_completed(item, plan) for item in plan.resources))


def _is_unread(item: PlannedResource) -> bool:
    return item.inputs.get("policy") is UNKNOWN


def _completed(item: PlannedResource, plan: Plan) -> PlannedResource:
    parent = plan.by_urn.get(item.parent)
    statements = parent.outputs.get("statements") if parent and _is_unread(item) else None
    if not statements:
        return item
    document = json.dumps({"Version": "2012-10-17", "Statement": _filled(statements)})
    return replace(item, inputs={**item.inputs, "policy": document})


def _filled(value: Any) -> Any:
    if value is UNKNOWN:
        return PLACEHOLDER
    if isinstance(value, Mapping):
        return {key: _filled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item) for item in value]
    return value
