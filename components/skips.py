"""Findings of third-party scanners that a component accepts, each with its reason, beside the resource."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Skip:
    """One accepted finding. A component module lists its own in `SKIPS: tuple[Skip, ...]`."""

    check: str
    """Identity of the check, such as `CKV_AWS_158`."""
    resource: str
    """Type token of the resource, or the Kubernetes kind."""
    reason: str
    """Why the finding is no risk here; a whole sentence."""
    name: str = "*"
    """Glob over the resource's name in the plan."""
