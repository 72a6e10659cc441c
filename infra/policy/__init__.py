"""Security assertions over a plan: one plain function for each, the same for a plan and for the engine."""

from collections.abc import Mapping
from dataclasses import dataclass

from infra.errors import TradestackError
from infra.plan.model import Plan
from infra.policy import (
    audit,
    cache,
    database,
    eks,
    functions,
    keys,
    kubernetes,
    load_balancer,
    messaging,
    network,
    protection,
    registries,
    state,
    storage,
    streaming,
)
from infra.policy.model import Estate, Finding, Resource, environment, estate, is_production
from infra.policy.registry import ASSERTIONS, Assertion, ordered

_MODULES = (
    audit,
    cache,
    database,
    eks,
    functions,
    keys,
    kubernetes,
    load_balancer,
    messaging,
    network,
    protection,
    registries,
    state,
    storage,
    streaming,
)
"""What registers the assertions, by being imported."""

__all__ = [
    "ASSERTIONS",
    "Assertion",
    "Estate",
    "Finding",
    "Resource",
    "Result",
    "check",
    "environment",
    "estate",
    "evaluate",
    "is_production",
]


@dataclass(frozen=True)
class Result:
    """What the assertions found."""

    passed: int
    """Pairs of an assertion and a resource about which there is nothing to say."""
    findings: tuple[Finding, ...]
    """Failures, and what was relaxed with its reason; by assertion."""


def check(plan: Plan, relax: Mapping[str, str] | None = None) -> list[Finding]:
    """What the assertions say about `plan`; empty when all hold.

    `relax` gives the reason for each assertion that this stack does not keep; its findings carry that reason.

    Raises:
        TradestackError: `relax` names no assertion, or has no reason.
    """
    return list(evaluate(estate(plan), relax).findings)


def evaluate(estate: Estate, relax: Mapping[str, str] | None = None) -> Result:
    """Run every assertion over a stack's resources.

    Raises:
        TradestackError: `relax` names no assertion, or has no reason.
    """
    reasons = _checked(relax or {})
    passed = 0
    findings: list[Finding] = []
    for item in ordered().values():
        for resource in item.select(estate):
            messages = list(item.check(resource, estate))
            passed += not messages
            findings += [
                Finding(item.id, "policy", resource.urn, message, item.severity, reasons.get(item.id, ""))
                for message in messages
            ]
    return Result(passed, tuple(findings))


def _checked(relax: Mapping[str, str]) -> Mapping[str, str]:
    for id_, reason in relax.items():
        if id_ not in ASSERTIONS:
            raise TradestackError(
                f"relaxed assertion '{id_}': no such assertion (TS001 to {max(ASSERTIONS)})"
            )
        if not reason.strip():
            raise TradestackError(f"relaxed assertion '{id_}' has no reason")
    return relax
