"""Assertions about what must not be lost."""

from collections.abc import Iterator

from infra.policy.model import Estate, Resource
from infra.policy.registry import assertion
from infra.policy.rules import KEY

_HOLDS_DATA = (
    "aws:rds/instance:Instance",
    "aws:elasticache/replicationGroup:ReplicationGroup",
    "aws:msk/cluster:Cluster",
    "aws:s3/bucket:Bucket",
    "aws:backup/vault:Vault",
    KEY,
)


def _data(estate: Estate) -> list[Resource]:
    """What holds data in production; a read replica holds none of its own."""
    if not estate.production:
        return []
    return [item for item in estate.of(*_HOLDS_DATA) if not item.given("replicateSourceDb")]


@assertion(62, "What holds data is protected in production", on=_data, family="State", severity="critical")
def protected(item: Resource, estate: Estate) -> Iterator[str]:
    """Pulumi refuses to delete or to replace it."""
    if not item.protect:
        yield "a deployment could delete or replace it: protect is not set"
