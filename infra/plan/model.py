"""A stack's resources as its program registers them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any


class Unknown:
    """A value that only the provider can tell, after the resource exists."""

    def __repr__(self) -> str:
        return "[unknown]"


UNKNOWN = Unknown()
"""The one unknown value."""


@dataclass(frozen=True)
class Secret:
    """A value that must not be shown; its representation is masked."""

    value: Any

    def __repr__(self) -> str:
        return "[secret]"


@dataclass(frozen=True)
class Options:
    """Resource options beyond parent, provider and dependencies."""

    protect: bool = False
    retain_on_delete: bool = False
    delete_before_replace: bool = False
    ignore_changes: tuple[str, ...] = ()
    replace_on_changes: tuple[str, ...] = ()
    additional_secret_outputs: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    """URNs, or `name`, `type` and `parent` of an alias that gives only what differs."""
    import_id: str = ""
    deleted_with: str = ""
    timeouts: Mapping[str, str] = field(default_factory=dict)
    """Seconds, minutes or hours by operation: create, update, delete."""
    version: str = ""
    """Version of the provider's package."""


@dataclass(frozen=True)
class PlannedResource:
    """One registration, whole."""

    urn: str
    type: str
    name: str
    parent: str
    """URN of the parent; empty for the stack itself."""
    custom: bool
    """Whether a provider manages it; a component otherwise."""
    inputs: Mapping[str, Any]
    """Plain values; a secret is a `Secret`, an unknown value is `UNKNOWN`."""
    dependencies: tuple[str, ...]
    """URNs, sorted; those of inputs included."""
    property_dependencies: Mapping[str, tuple[str, ...]]
    provider: str
    """URN of the provider; empty for components and for a default provider."""
    options: Options
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """What a component registered; empty for others."""

    @property
    def secrets(self) -> list[str]:
        """Paths of the inputs that are secret, such as `stringData` or `spec.password`."""
        return sorted(_secret_paths(self.inputs, ""))


@dataclass(frozen=True)
class Plan:
    """Every resource of a stack, each after what it depends on, and the stack's outputs."""

    stack: str
    project: str
    resources: tuple[PlannedResource, ...]
    outputs: Mapping[str, Any]
    settings_file: Path
    warnings: tuple[str, ...] = ()
    """What the program logged as warning."""

    @cached_property
    def by_urn(self) -> Mapping[str, PlannedResource]:
        """Resources by URN."""
        return {resource.urn: resource for resource in self.resources}

    def children(self, urn: str) -> list[PlannedResource]:
        """Direct children of a resource, in plan order."""
        return list(self._children.get(urn, ()))

    @cached_property
    def _children(self) -> Mapping[str, list[PlannedResource]]:
        found: dict[str, list[PlannedResource]] = {}
        for resource in self.resources:
            found.setdefault(resource.parent, []).append(resource)
        return found


def masked(value: Any) -> Any:
    """`value` as plain JSON data with every secret as `[secret]` and every unknown value as `[unknown]`."""
    if isinstance(value, Secret | Unknown):
        return repr(value)
    if isinstance(value, Mapping):
        return {key: masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value


def revealed(value: Any) -> Any:
    """`value` with secrets in the clear; only for what goes straight to the cluster."""
    if isinstance(value, Secret):
        return revealed(value.value)
    if isinstance(value, Mapping):
        return {key: revealed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [revealed(item) for item in value]
    return value


def _secret_paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Secret):
        yield path
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secret_paths(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _secret_paths(item, f"{path}[{index}]")
