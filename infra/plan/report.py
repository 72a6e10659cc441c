"""A plan with all that is said about it: what changes, what it costs, what is not as it should be."""

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from infra import cost, policy
from infra.cost.model import ZERO
from infra.errors import TradestackError
from infra.plan import show
from infra.plan.diff import Action, Change, Diff, Property, compare
from infra.plan.documents import complete
from infra.plan.model import Plan, masked
from infra.plan.stack_settings import relaxations, usage


@dataclass(frozen=True)
class Report:
    """One plan and its comparison with another."""

    plan: Plan
    estimate: cost.Estimate | None
    """None when a price is missing."""
    findings: tuple[policy.Finding, ...]
    """What the policy finds in the plan, the most severe first; what is accepted too, with its reason."""
    against: str = ""
    """What it is compared with, as the user named it; empty without a comparison."""
    diff: Diff | None = None
    costs: cost.Comparison | None = None
    new: tuple[policy.Finding, ...] = ()
    """Findings that the other plan does not have."""
    fixed: tuple[policy.Finding, ...] = ()
    """Findings that only the other plan has."""
    problem: str = ""
    """Why one of the two plans has no cost."""

    @property
    def open(self) -> tuple[policy.Finding, ...]:
        """Findings that nobody has accepted."""
        return tuple(finding for finding in self.findings if not finding.reason)


@dataclass(frozen=True)
class CostRow:
    """Dollars a month of one component; `delta_usd` is what it costs more than before, None when the same."""

    component: str
    usd: Decimal
    delta_usd: Decimal | None


def cost_rows(report: Report) -> list[CostRow]:
    """The components, the most expensive first; those that are gone come last."""
    deltas = {item.component: item.delta_usd for item in report.costs.components} if report.costs else {}
    components = report.estimate.components if report.estimate else {}
    return [
        CostRow(name, components.get(name, ZERO), deltas.get(name))
        for name in dict.fromkeys([*components, *deltas])
    ]


def monthly(report: Report) -> str:
    """What the stack costs in a month and how that changes, in words."""
    if report.estimate is None:
        return f"cost unknown: {report.problem}"
    text = f"${cost.cents(report.estimate.monthly_usd):,} a month"
    if report.costs and report.costs.delta_usd:
        text += f" ({cost.cents(report.costs.delta_usd):+,})"
    return f"{text}, change unknown: {report.problem}" if report.problem else text


def counts(report: Report) -> str:
    """How many resources each action happens to, in words; empty without a comparison."""
    if report.diff is None:
        return ""
    words = {
        Action.CREATE: "create",
        Action.UPDATE: "update",
        Action.REPLACE: "replace",
        Action.DELETE: "delete",
    }
    given = [f"{number} to {word}" for action, word in words.items() if (number := report.diff.count(action))]
    return ", ".join([*given, f"{report.diff.same} unchanged"])


LIMITS = (
    "Secrets are masked in what is compared with, so a changed secret is not seen.",
    "Values that only AWS knows count as unchanged while they come from the same resources; a policy with "
    "such a value in it is unknown as a whole.",
)
"""What a comparison cannot tell."""


def assemble(plan: Plan, against: str = "", old: Plan | None = None) -> Report:
    """The report about `plan`; with `against`, compared with `old`, which is None when there was no stack."""
    (estimate, problem), findings = _estimate(plan), _findings(plan)
    if not against:
        return Report(plan, estimate, findings, problem=problem)
    before = _findings(old) if old else ()
    former, old_problem = _estimate(old) if old else (None, "")
    if old is None and estimate:
        former = cost.Estimate(estimate.stack, estimate.view, (), ZERO, ())
    return Report(
        plan,
        estimate,
        findings,
        against,
        compare(old, plan),
        cost.compare(former, estimate) if former and estimate else None,
        problem=problem or old_problem,
        new=_without(findings, before),
        fixed=_without(before, findings),
    )


def document(report: Report) -> dict[str, Any]:
    """The report as JSON data; `changes` is null without a comparison."""
    new = Counter(_identity(finding) for finding in report.new)
    return {
        **show.document(report.plan),
        "changes": _changes(report),
        "cost": _cost(report.estimate),
        "findings": [
            {**_finding(item), "new": new[_identity(item)] > 0 if report.diff else None}
            for item in report.findings
        ],
    }


def _cost(estimate: cost.Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    components = {name: cost.cents(usd) for name, usd in estimate.components.items()}
    return {
        "monthly_usd": float(sum(components.values(), ZERO)),
        "components": {name: float(usd) for name, usd in components.items()},
    }


def _changes(report: Report) -> dict[str, Any] | None:
    if report.diff is None:
        return None
    return {
        "against": report.against,
        **{action.value: report.diff.count(action) for action in Action},
        "same": report.diff.same,
        "dangerous": sum(change.dangerous for change in report.diff.changes),
        "items": [_item(change) for change in report.diff.changes],
        "cost": _cost_change(report.costs),
        "findings": {"new": len(report.new), "fixed": [_finding(item) for item in report.fixed]},
    }


def _cost_change(costs: cost.Comparison | None) -> dict[str, Any] | None:
    if costs is None:
        return None
    return {
        "old_usd": float(cost.cents(costs.old_usd)),
        "new_usd": float(cost.cents(costs.new_usd)),
        "delta_usd": float(cost.cents(costs.delta_usd)),
        "components": [
            {
                "component": delta.component,
                "old_usd": float(cost.cents(delta.old_usd)),
                "new_usd": float(cost.cents(delta.new_usd)),
                "delta_usd": float(cost.cents(delta.delta_usd)),
            }
            for delta in costs.components
        ],
    }


def _item(change: Change) -> dict[str, Any]:
    return {
        "action": change.action.value,
        "urn": change.resource.urn,
        "formerUrn": change.former_urn,
        "type": change.resource.type,
        "name": change.resource.name,
        "properties": [_property(item) for item in change.properties],
        "deleteFirst": change.delete_first,
        "refused": change.refused,
        "risk": change.risk,
        "notes": list(change.notes),
    }


def _property(item: Property) -> dict[str, Any]:
    return {
        "path": item.difference.text,
        "kind": item.difference.kind.value,
        "old": masked(item.difference.old),
        "new": masked(item.difference.new),
        "forces": item.forces,
        "because": item.because,
    }


def _finding(finding: policy.Finding) -> dict[str, str]:
    return {
        "id": finding.id,
        "severity": finding.severity,
        "resource": finding.resource,
        "message": finding.message,
        "reason": finding.reason,
    }


_SEVERITIES = ("critical", "high", "medium", "low")


def _findings(plan: Plan) -> tuple[policy.Finding, ...]:
    found = policy.check(complete(plan), relaxations(plan))
    return tuple(sorted(found, key=lambda item: (bool(item.reason), _SEVERITIES.index(item.severity))))


def _identity(finding: policy.Finding) -> tuple[str, str, str]:
    return finding.id, finding.resource, finding.message


def _without(
    findings: tuple[policy.Finding, ...], others: tuple[policy.Finding, ...]
) -> tuple[policy.Finding, ...]:
    left = Counter(_identity(finding) for finding in others)
    found = []
    for finding in findings:
        if left[_identity(finding)]:
            left[_identity(finding)] -= 1
        else:
            found.append(finding)
    return tuple(found)


def _estimate(plan: Plan) -> tuple[cost.Estimate | None, str]:
    """The cost, or why there is none: a price that nobody has entered must not hide what changes."""
    try:
        return cost.estimate(plan, usage=usage(plan)), ""
    except TradestackError as error:
        return None, str(error)
