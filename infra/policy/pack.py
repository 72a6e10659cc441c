"""The assertions as policies of the engine, through pulumi-policy."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pulumi
from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyComplianceFramework,
    PolicyPack,
    PolicyResource,
    ReportViolation,
    Severity,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy import proxy as engine_proxy

from infra.plan.model import UNKNOWN
from infra.policy import Assertion, Estate, Resource, is_production
from infra.policy.registry import ordered

NAME = "tradestack"
ENVIRONMENT_KEY = "tradestack:environment"
RELAX_KEY = "tradestack:relax"
_SEVERITIES = {item.value: item for item in Severity}
_INSIDE = "__target"
"""Key under which the package's proxies keep what they guard against unknown values."""


def run() -> None:
    """Serve the pack to the engine; never returns."""
    PolicyPack(NAME, policies=policies(), enforcement_level=EnforcementLevel.MANDATORY)


def policies() -> list[Policy]:
    """One policy for each assertion that the engine can tell."""
    return [_policy(item) for item in ordered().values() if item.seen_by_engine]


def _policy(item: Assertion) -> StackValidationPolicy:
    framework = "AWS Foundational Security Best Practices"

    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        given = configuration()
        name = str(given.get(ENVIRONMENT_KEY, _stack(args.resources)))
        if item.id in _relaxed(given) and not is_production(name):
            args.not_applicable(_relaxed(given)[item.id])
        seen = estate(args.resources, name)
        for resource in item.select(seen):
            for message in item.check(resource, seen):
                report(f"{item.id}: {message}", resource.urn)

    return StackValidationPolicy(
        name=item.id.lower(),
        description=item.title,
        validate=validate,
        enforcement_level=enforcement(str(configuration().get(ENVIRONMENT_KEY, ""))),
        severity=_SEVERITIES[item.severity],
        framework=PolicyComplianceFramework(name=framework, reference=", ".join(item.fsbp))
        if item.fsbp
        else None,
        tags=[item.family],
    )


def enforcement(environment: str) -> EnforcementLevel:
    """Mandatory where the rules for production hold, or where nobody says; advisory elsewhere."""
    return (
        EnforcementLevel.MANDATORY
        if not environment or is_production(environment)
        else EnforcementLevel.ADVISORY
    )


def configuration() -> Mapping[str, Any]:
    """Configuration of the stack that the engine works on, as it hands it to the pack."""
    return pulumi.runtime.config.CONFIG.get() | pulumi.runtime.config.get_config_env()


def estate(resources: Iterable[PolicyResource], environment: str) -> Estate:
    """The engine's resources, as assertions see them.

    The engine hands out outputs: what AWS filled in is there too, and secrets are in the clear.
    """
    return Estate(
        stack=environment,
        production=is_production(environment),
        resources=tuple(
            Resource(
                urn=item.urn,
                type=item.resource_type,
                name=item.name,
                inputs=plain(item.props),
                references={
                    key: tuple(sorted(other.urn for other in others))
                    for key, others in item.property_dependencies.items()
                },
                protect=bool(item.opts.protect),
            )
            for item in resources
        ),
    )


def plain(value: Any) -> Any:
    """A property without the package's proxies; unknown values as `UNKNOWN`, whole numbers as such."""
    if isinstance(value, engine_proxy._DictProxy | engine_proxy._ListProxy):
        return plain(value[_INSIDE])
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if engine_proxy._is_unknown(value):
        return UNKNOWN
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _stack(resources: Sequence[PolicyResource]) -> str:
    return resources[0].urn.split("::", 1)[0].rsplit(":", 1)[-1] if resources else ""


def _relaxed(given: Mapping[str, Any]) -> Mapping[str, str]:
    text = given.get(RELAX_KEY, "{}")
    return dict(json.loads(text)) if isinstance(text, str) else {}
