"""What an assertion sees: resources with their inputs, and which of them belong together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from infra.plan.model import UNKNOWN, Plan, Secret

_PRODUCTION = frozenset({"prod", "production"})
_STACK = "pulumi:pulumi:Stack"


@dataclass(frozen=True)
class Finding:
    """What one checker says about one resource."""

    id: str
    """Identity of the check, such as `TS016` or `CKV_AWS_16`."""
    checker: str
    """`policy`, `checkov`, `kube-score` or `kubeconform`."""
    resource: str
    """URN of the resource, or the address that the checker gives."""
    message: str
    """What is wrong, in words."""
    severity: str
    """`critical`, `high`, `medium` or `low`."""
    reason: str = ""
    """Why it is accepted; a finding without a reason is a failure."""


@dataclass(frozen=True)
class Resource:
    """One resource as an assertion sees it; secrets are opened, unknown values are `UNKNOWN`."""

    urn: str
    type: str
    name: str
    inputs: Mapping[str, Any]
    """Inputs in the provider's own spelling; a secret is still a `Secret`."""
    references: Mapping[str, tuple[str, ...]]
    """URNs that each input came from, by the input's first key."""
    protect: bool = False
    """Whether Pulumi refuses to delete it."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """What a component registered."""

    def get(self, path: str, default: Any = None) -> Any:
        """The input at `path`, such as `vpcConfig.subnetIds`; `UNKNOWN` below an unknown value."""
        return dig(self.inputs, path, default)

    def items(self, path: str) -> list[Any]:
        """The list at `path`; empty where there is none, one unknown item where it is not known."""
        found = self.get(path)
        if found is UNKNOWN:
            return [UNKNOWN]
        return list(found) if isinstance(found, list | tuple) else [] if found is None else [found]

    def given(self, path: str) -> bool:
        """Whether the input has a value, known or not."""
        return self.get(path) not in (None, "", [], {})

    def sources(self, path: str) -> tuple[str, ...]:
        """URNs that the input came from."""
        return self.references.get(path.split(".", 1)[0], ())


@dataclass(frozen=True)
class Estate:
    """Every resource of one stack."""

    stack: str
    production: bool
    """Whether the rules for production apply."""
    resources: tuple[Resource, ...]

    @cached_property
    def by_urn(self) -> Mapping[str, Resource]:
        """Resources by URN."""
        return {resource.urn: resource for resource in self.resources}

    @cached_property
    def _by_type(self) -> Mapping[str, list[Resource]]:
        found: dict[str, list[Resource]] = {}
        for resource in self.resources:
            found.setdefault(resource.type, []).append(resource)
        return found

    @cached_property
    def cloud(self) -> bool:
        """Whether the stack has resources in AWS."""
        return any(resource.type.startswith("aws:") for resource in self.resources)

    @property
    def root(self) -> list[Resource]:
        """The stack itself, in a list."""
        return self.of(_STACK)

    def of(self, *types: str) -> list[Resource]:
        """Resources of these type tokens."""
        return [resource for type_ in types for resource in self._by_type.get(type_, [])]

    def targets(self, resource: Resource, path: str, *types: str) -> list[Resource]:
        """Resources of `types` that the input at `path` refers to, by dependency or by physical name."""
        urns = set(resource.sources(path))
        names = {value for value in flat(resource.get(path)) if isinstance(value, str)}
        return [item for item in self.of(*types) if item.urn in urns or identities(item) & names]

    def users(self, target: Resource, path: str, *types: str) -> list[Resource]:
        """Resources of `types` whose input at `path` refers to `target`."""
        return [item for item in self.of(*types) if target in self.targets(item, path, target.type)]


def dig(value: Any, path: str, default: Any = None) -> Any:
    """The value at `path` below `value`, with secrets opened; `UNKNOWN` below an unknown value."""
    for key in path.split("."):
        value = opened(value)
        if value is UNKNOWN:
            return UNKNOWN
        if isinstance(value, list | tuple) and len(value) == 1 and not key.isdigit():
            # The provider's single blocks may be written as lists of one.
            value = opened(value[0])
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = value[key]
    return opened(value)


def opened(value: Any) -> Any:
    """The value inside a secret, or the value itself."""
    while isinstance(value, Secret):
        value = value.value
    return value


def flat(value: Any) -> Iterator[Any]:
    """Every single value inside lists and mappings."""
    value = opened(value)
    if isinstance(value, Mapping):
        for item in value.values():
            yield from flat(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from flat(item)
    else:
        yield value


def identities(resource: Resource) -> set[str]:
    """Physical names under which others may refer to a resource."""
    keys = ("name", "bucket", "identifier", "clusterIdentifier", "replicationGroupId", "clusterName")
    found = {resource.get(key) for key in keys}
    return {value for value in found if isinstance(value, str) and value}


def estate(plan: Plan) -> Estate:
    """The resources of a plan, as assertions see them."""
    return Estate(
        stack=plan.stack,
        production=environment(plan) in _PRODUCTION,
        resources=tuple(
            Resource(
                urn=item.urn,
                type=item.type,
                name=item.name,
                inputs=item.inputs,
                references=item.property_dependencies,
                protect=item.options.protect,
                outputs=item.outputs,
            )
            for item in plan.resources
        ),
    )


def environment(plan: Plan) -> str:
    """What `tradestack:environment` of the stack's file says; the stack's name where it says nothing."""
    from infra.plan import stackfile

    if not plan.settings_file.is_file():
        return plan.stack
    return stackfile.configuration(plan.settings_file).get("tradestack:environment", plan.stack)


def is_production(name: str) -> bool:
    """Whether an environment of this name is held to the rules for production."""
    return name in _PRODUCTION
