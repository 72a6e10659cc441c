"""Findings of scanners that components accept on purpose."""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from components.skips import Skip
from infra.plan.model import Plan
from infra.policy import Finding

CHECKER = "skips"
WITHOUT_REASON = "skip-without-reason"
STALE = "skip-stale"
_LEAST_REASON = 20


@dataclass(frozen=True)
class Declared:
    """A skip and the module that declares it."""

    skip: Skip
    module: str

    def __str__(self) -> str:
        return f"{self.skip.check} on {self.skip.resource} '{self.skip.name}'"

    def accepts(self, finding: Finding, plan: Plan) -> bool:
        """Whether the skip is about this finding."""
        resource = plan.by_urn.get(finding.resource)
        if resource is None or finding.id != self.skip.check:
            return False
        kinds = (
            {resource.type, resource.type.rsplit(":", 1)[-1]}
            if _is_kubernetes(resource.type)
            else {resource.type}
        )
        return self.skip.resource in kinds and fnmatchcase(resource.name, self.skip.name)


def collect() -> list[Declared]:
    """Every skip of every component, by importing them all."""
    import components

    found: list[Declared] = []
    for info in pkgutil.walk_packages(components.__path__, "components."):
        module = importlib.import_module(info.name)
        found += [Declared(skip, info.name) for skip in getattr(module, "SKIPS", ())]
    return found


def apply(findings: Iterable[Finding], plan: Plan, declared: Sequence[Declared]) -> list[Finding]:
    """`findings` with the reason of the skip that accepts each, where one with a reason does."""
    usable = [item for item in declared if has_reason(item.skip)]
    return [
        replace(
            finding, reason=next((item.skip.reason for item in usable if item.accepts(finding, plan)), "")
        )
        if not finding.reason
        else finding
        for finding in findings
    ]


_SAME = {
    "TS017": ("CKV_AWS_157",),
    "TS019": ("CKV_AWS_293",),
    "TS020": ("CKV_AWS_133",),
    "TS032": ("CKV2_AWS_50",),
    "TS033": ("CKV_AWS_134",),
    "TS050": ("CKV_AWS_150",),
}
"""Scanners' checks of what an assertion asks for too."""


def relax(findings: Iterable[Finding], relaxed: Mapping[str, str]) -> list[Finding]:
    """`findings` with the reason of the relaxed assertion that asks for the same."""
    reasons = {check: relaxed[id_] for id_, checks in _SAME.items() if id_ in relaxed for check in checks}
    return [
        replace(finding, reason=reasons[finding.id])
        if not finding.reason and finding.id in reasons
        else finding
        for finding in findings
    ]


def has_reason(skip: Skip) -> bool:
    """Whether a skip says why, in at least 20 characters."""
    return len(skip.reason.strip()) >= _LEAST_REASON


def without_reason(declared: Iterable[Declared]) -> list[Finding]:
    """A failure for each skip that does not say why."""
    return [
        Finding(WITHOUT_REASON, CHECKER, item.module, f"the skip of {item} gives no reason", "high")
        for item in declared
        if not has_reason(item.skip)
    ]


def stale(
    declared: Iterable[Declared], stacks: Mapping[str, tuple[Plan, Sequence[Finding]]]
) -> list[Finding]:
    """A failure for each skip that accepts nothing in any of the stacks any more."""
    return [
        Finding(STALE, CHECKER, item.module, f"the skip of {item} matches nothing in any stack", "medium")
        for item in declared
        if not any(item.accepts(finding, plan) for plan, findings in stacks.values() for finding in findings)
    ]


def _is_kubernetes(token: str) -> bool:
    return token.startswith("kubernetes:")
