"""Questions that several assertions ask of a resource."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from infra.plan.model import UNKNOWN
from infra.policy.model import Estate, Resource

KEY = "aws:kms/key:Key"
SUBNET = "aws:ec2/subnet:Subnet"
EVERYWHERE = ("0.0.0.0/0", "::/0")

_AWS_KEY = "alias/aws/"


def is_set(resource: Resource, path: str, wanted: Any = True) -> bool:
    """Whether the input is known and `wanted`; the provider writes some booleans as texts."""
    found = resource.get(path)
    if found is UNKNOWN or found is None:
        return False
    if isinstance(wanted, bool) and isinstance(found, str):
        return found.lower() == str(wanted).lower()
    return bool(found == wanted)


def number(resource: Resource, path: str) -> float | None:
    """The number at `path`; None where there is none or it is not known."""
    found = resource.get(path)
    if isinstance(found, bool):
        return None
    if isinstance(found, str) and found.replace(".", "", 1).isdigit():
        return float(found)
    return found if isinstance(found, int | float) else None


def customer_key(resource: Resource, path: str, estate: Estate) -> bool:
    """Whether the input names a customer's own key: a reference to one of the stack, or a written one."""
    found = resource.get(path)
    if found is UNKNOWN:
        return any(estate.by_urn[urn].type == KEY for urn in resource.sources(path) if urn in estate.by_urn)
    return isinstance(found, str) and bool(found) and _AWS_KEY not in found


def zones(resource: Resource, path: str, estate: Estate) -> set[str]:
    """Availability zones of the subnets that the input refers to, as far as they are known."""
    found = {subnet.get("availabilityZone") for subnet in estate.targets(resource, path, SUBNET)}
    return {zone for zone in found if isinstance(zone, str)}


def statements(document: Any) -> list[Mapping[str, Any]] | None:
    """The statements of a policy document; None where it is not known or no document."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except json.JSONDecodeError:
            return None
    if not isinstance(document, Mapping):
        return None
    found = many(document.get("Statement"))
    return [item for item in found if isinstance(item, Mapping)]


def many(value: Any) -> list[Any]:
    """A value that may be given alone, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def is_anyone(principal: Any) -> bool:
    """Whether a principal of a policy is everybody."""
    if isinstance(principal, Mapping):
        return any(is_anyone(item) for item in principal.values())
    return "*" in many(principal)


def open_statements(document: Any) -> Iterator[str]:
    """Names of the statements that allow something to everybody, without a condition."""
    for index, item in enumerate(statements(document) or []):
        if item.get("Effect") == "Allow" and is_anyone(item.get("Principal")) and not item.get("Condition"):
            yield str(item.get("Sid", f"number {index + 1}"))


def unread(what: str) -> str:
    """Message about something that only a deployment can tell."""
    return f"{what} is not known before a deployment and cannot be checked"
