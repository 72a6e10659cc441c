"""What checkers report."""

from dataclasses import dataclass

from infra.policy import Finding

FAILED_TO_RUN = "checker-failed"
"""Id of the finding that a checker could not do its work."""


@dataclass(frozen=True)
class Scan:
    """What one checker found in one stack, before skips."""

    checker: str
    """`policy`, `checkov`, `kube-score` or `kubeconform`."""
    passed: int
    """Checks with nothing to say."""
    findings: tuple[Finding, ...]
    """Everything else."""


def failed_to_run(checker: str, stack: str, reason: str) -> Scan:
    """A checker that could not run: a failure, never a pass."""
    return Scan(checker, 0, (Finding(FAILED_TO_RUN, checker, stack, reason, "critical"),))
