"""The AWS part of a plan in the form of `terraform show -json`, for scanners that read Terraform."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.check.terraform_names import attribute, is_map, type_name
from infra.plan.model import UNKNOWN, Plan, PlannedResource, Secret

_PACKAGE = "aws:"
_FORMAT_VERSION = "1.2"
_PROVIDER = "registry.terraform.io/hashicorp/aws"
_HIDDEN = "(sensitive value)"
_FILE = "function.zip"
_LIKELY = (
    ("subnet", "aws_subnet"),
    ("security_group", "aws_security_group"),
    ("kms", "aws_kms_key"),
    ("key", "aws_kms_key"),
    ("role", "aws_iam_role"),
    ("bucket", "aws_s3_bucket"),
    ("topic", "aws_sns_topic"),
    ("log", "aws_cloudwatch_log_group"),
    ("target_group", "aws_lb_target_group"),
    ("vpc", "aws_vpc"),
)
"""What an unknown value below such a name most likely refers to, where an input has several sources."""


@dataclass(frozen=True)
class TerraformPlan:
    """A plan as Terraform would show it."""

    document: Mapping[str, Any]
    """The JSON document."""
    urns: Mapping[str, str]
    """URN of each resource by its Terraform address."""


def convert(plan: Plan) -> TerraformPlan:
    """Every AWS resource of a plan, with its references; secrets are masked."""
    resources = [item for item in plan.resources if item.custom and item.type.startswith(_PACKAGE)]
    addresses = _addresses(resources)
    made = [_Writer(item, addresses).write() for item in resources]
    document = {
        "format_version": _FORMAT_VERSION,
        "terraform_version": "1.9.0",
        "planned_values": {"root_module": {"resources": [item.planned for item in made]}},
        "resource_changes": [item.change for item in made],
        "configuration": {
            "provider_config": {"aws": {"name": "aws", "full_name": _PROVIDER}},
            "root_module": {"resources": [item.configured for item in made]},
        },
    }
    return TerraformPlan(document, {address: urn for urn, address in addresses.items()})


def _addresses(resources: Sequence[PlannedResource]) -> dict[str, str]:
    """Terraform address of each resource by its URN; names that two of a type share get a number."""
    taken: set[str] = set()
    found: dict[str, str] = {}
    for item in resources:
        base = f"{type_name(item.type)}.{re.sub(r'[^A-Za-z0-9_-]', '_', item.name)}"
        address, number = base, 1
        while address in taken:
            number += 1
            address = f"{base}-{number}"
        taken.add(address)
        found[item.urn] = address
    return found


@dataclass(frozen=True)
class _Written:
    planned: Mapping[str, Any]
    change: Mapping[str, Any]
    configured: Mapping[str, Any]


class _Writer:
    """Writes one resource."""

    def __init__(self, resource: PlannedResource, addresses: Mapping[str, str]) -> None:
        self._resource = resource
        self._addresses = addresses
        self._address = addresses[resource.urn]
        self._type, _, self._name = self._address.partition(".")

    def write(self) -> _Written:
        identity = {"address": self._address, "mode": "managed", "type": self._type, "name": self._name}
        values: dict[str, Any] = {}
        expressions: dict[str, Any] = {}
        for key, value in self._resource.inputs.items():
            if key.startswith("__"):
                continue
            name = attribute(self._type, key, blocks=_is_blocks(value))
            sources = self._sources(key)
            values[name] = self._value(name, value, sources)
            if sources:
                expressions[name] = {
                    "references": [part for item in sources for part in (f"{item}.id", item)]
                }
        change = {"actions": ["create"], "before": None, "after": values, "after_unknown": {}}
        return _Written(
            planned={**identity, "provider_name": _PROVIDER, "schema_version": 0, "values": values},
            change={**identity, "provider_name": _PROVIDER, "change": change},
            configured={**identity, "provider_config_key": "aws", "expressions": expressions},
        )

    def _sources(self, key: str) -> list[str]:
        urns = self._resource.property_dependencies.get(key, ())
        return [self._addresses[urn] for urn in urns if urn in self._addresses]

    def _value(self, name: str, value: Any, sources: list[str]) -> Any:
        if isinstance(value, Secret):
            return _HIDDEN
        if value is UNKNOWN:
            return _reference(name, sources)
        if name == "filename":
            # An archive of the program's own making; Terraform would name a file.
            return _FILE
        if isinstance(value, Mapping):
            return self._map(value, sources) if is_map(self._type, name) else [self._block(value, sources)]
        if _is_blocks(value):
            return [self._block(item, sources) for item in value]
        if isinstance(value, list | tuple):
            return [self._value(name, item, sources) for item in value]
        return value

    def _map(self, value: Mapping[str, Any], sources: list[str]) -> dict[str, Any]:
        return {key: self._value(key, item, sources) for key, item in value.items()}

    def _block(self, value: Mapping[str, Any], sources: list[str]) -> dict[str, Any]:
        found = {}
        for key, item in value.items():
            name = attribute(self._type, key, blocks=_is_blocks(item))
            found[name] = self._value(name, item, sources)
        return found


def _is_blocks(value: Any) -> bool:
    return (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)
    )


def _reference(name: str, sources: Sequence[str]) -> str:
    """What an unknown value reads like: the attribute of the resource it comes from."""
    if not sources:
        return "(known after apply)"
    wanted = next((type_ for part, type_ in _LIKELY if part in name), "")
    chosen = next((item for item in sources if item.startswith(f"{wanted}.")), sources[0])
    return f"{chosen}.{'arn' if name.endswith('arn') else 'id'}"
