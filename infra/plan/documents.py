"""JSON texts that are unknown for one value in them, from what their component registered.

`Output.json_dumps` gives text that is unknown as a whole while one ARN in it is. A component that makes such
text registers what it is made of as its output `documents`: `<resource name>.<property>` → value.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from infra.plan.model import UNKNOWN, Plan, PlannedResource

PLACEHOLDER = "arn:aws:service:us-east-1:123456789012:known-after-deployment"
"""What stands for a value that only AWS knows in a completed text."""


def documents_of(item: PlannedResource, plan: Plan) -> dict[str, Any]:
    """What each unknown JSON text of a resource is made of, by property; unknown values in it stay so."""
    parent = plan.by_urn.get(item.parent)
    registered = parent.outputs.get("documents", {}) if parent else {}
    unknown = [name for name, value in item.inputs.items() if value is UNKNOWN]
    keys = {name: f"{item.name}.{name}" for name in unknown}
    return {name: registered[key] for name, key in keys.items() if key in registered}


def complete(plan: Plan) -> Plan:
    """The plan with those texts, a placeholder in each unknown place; other unknown values stay so."""
    texts = {item.urn: _texts(item, plan) for item in plan.resources}
    if not any(texts.values()):
        return plan
    filled = [
        replace(item, inputs={**item.inputs, **texts[item.urn]}) if texts[item.urn] else item
        for item in plan.resources
    ]
    return replace(plan, resources=tuple(filled))


def _texts(item: PlannedResource, plan: Plan) -> dict[str, str]:
    return {name: json.dumps(_filled(value)) for name, value in documents_of(item, plan).items()}


def _filled(value: Any) -> Any:
    if value is UNKNOWN:
        return PLACEHOLDER
    if isinstance(value, Mapping):
        return {key: _filled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item) for item in value]
    return value
