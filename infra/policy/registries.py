"""Assertions about image repositories."""

from collections.abc import Iterator

from infra.policy.model import Estate, Resource
from infra.policy.registry import assertion
from infra.policy.rules import is_set

_REPOSITORY = "aws:ecr/repository:Repository"
_LIFECYCLE = "aws:ecr/lifecyclePolicy:LifecyclePolicy"
_SCANNING = "aws:ecr/registryScanningConfiguration:RegistryScanningConfiguration"


@assertion(
    51,
    "Image tags never move, images are scanned, old ones go",
    "ECR.1",
    "ECR.2",
    "ECR.3",
    on=[_REPOSITORY],
    family="ECR",
    severity="medium",
)
def repositories(repository: Resource, estate: Estate) -> Iterator[str]:
    """Scanned when pushed, by the repository's or the registry's setting."""
    if not is_set(repository, "imageTagMutability", "IMMUTABLE"):
        yield "tags can be moved to other images"
    if not (is_set(repository, "imageScanningConfiguration.scanOnPush") or estate.of(_SCANNING)):
        yield "images are not scanned"
    if not estate.users(repository, "repository", _LIFECYCLE):
        yield "old images are kept for ever"
