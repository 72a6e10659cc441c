"""All checks of one stack, with skips and relaxations applied."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra import policy
from infra.check import skips
from infra.check.model import Scan
from infra.check.scan import scan
from infra.plan import Plan, documents, run, stackfile
from infra.plan.stack_settings import relaxations
from infra.policy import Finding
from infra.progress import Steps


@dataclass(frozen=True)
class Report:
    """What all checkers say about one stack."""

    stack: str
    passed: int
    """Checks with nothing to say."""
    findings: tuple[Finding, ...]
    """Failures, and what is accepted with its reason."""

    @property
    def failures(self) -> list[Finding]:
        """Findings that nobody accepted."""
        return [finding for finding in self.findings if not finding.reason]

    @property
    def accepted(self) -> list[Finding]:
        """Findings with a reason."""
        return [finding for finding in self.findings if finding.reason]

    def document(self) -> dict[str, Any]:
        """The report as JSON data."""
        return {
            "stack": self.stack,
            "passed": self.passed,
            "failed": len(self.failures),
            "skipped": len(self.accepted),
            "findings": [
                {
                    "checker": finding.checker,
                    "id": finding.id,
                    "resource": finding.resource,
                    "message": finding.message,
                    "severity": finding.severity,
                    "reason": finding.reason,
                }
                for finding in self.findings
            ],
        }


def check(stack: str, steps: Steps) -> Report:
    """Run every checker over a stack; skips that no stack needs any more are failures too.

    Raises:
        TradestackError: the stack cannot be planned.
    """
    with steps.step(f"Plan {stack}"):
        plan = documents.complete(run(stack))
    declared = skips.collect()
    with steps.step(f"Check {stack}"):
        scans = scan(plan, steps)
    accepted = relaxations(plan)
    asserted = policy.evaluate(policy.estate(plan), accepted)
    scanned = [finding for item in scans for finding in item.findings]
    findings = [
        *asserted.findings,
        *skips.relax(skips.apply(scanned, plan, declared), accepted),
        *skips.without_reason(declared),
        *_stale(stack, plan, scanned, declared, steps),
    ]
    return Report(stack, asserted.passed + sum(item.passed for item in scans), tuple(findings))


def _stale(
    stack: str,
    plan: Plan,
    findings: Sequence[Finding],
    declared: Sequence[skips.Declared],
    steps: Steps,
) -> list[Finding]:
    known: dict[str, tuple[Plan, Sequence[Finding]]] = {stack: (plan, findings)}
    if not skips.stale(declared, known):
        return []
    for other in stackfile.stacks():
        if other == stack:
            continue
        try:
            with steps.step(f"Look for skips that {other} needs"):
                its_plan = documents.complete(run(other))
                known[other] = (its_plan, _findings(scan(its_plan, steps)))
        except Exception as error:
            # Whatever is wrong with another stack's program is found by its own check.
            steps.console.print(
                f"skips are not looked at: stack '{other}' cannot be planned: {error}", markup=False
            )
            return []
        if not skips.stale(declared, known):
            return []
    return skips.stale(declared, known)


def _findings(scans: Sequence[Scan]) -> list[Finding]:
    return [finding for item in scans for finding in item.findings]
