"""Assertions about ElastiCache."""

from collections.abc import Iterator

from infra.policy.model import Estate, Resource
from infra.policy.registry import assertion
from infra.policy.rules import customer_key, is_set, number

_GROUP = "aws:elasticache/replicationGroup:ReplicationGroup"
_SUBNETS = "aws:elasticache/subnetGroup:SubnetGroup"

_SNAPSHOT_DAYS = 7


@assertion(29, "Caches are encrypted at rest under a customer key", "EC.4", on=[_GROUP], family="ElastiCache")
def at_rest(cache: Resource, estate: Estate) -> Iterator[str]:
    """Memory that is swapped, backups and what is synchronised."""
    if not is_set(cache, "atRestEncryptionEnabled"):
        yield "encryption at rest is off"
    if not customer_key(cache, "kmsKeyId", estate):
        yield "encryption at rest has no customer key"


@assertion(30, "Caches take TLS only", "EC.5", on=[_GROUP], family="ElastiCache")
def in_transit(cache: Resource, estate: Estate) -> Iterator[str]:
    """Not even as an alternative in the clear."""
    if not is_set(cache, "transitEncryptionEnabled"):
        yield "encryption in transit is off"
    elif cache.get("transitEncryptionMode", "required") != "required":
        yield "encryption in transit is not required"


@assertion(31, "Caches ask who is there", on=[_GROUP], family="ElastiCache", severity="critical")
def authentication(cache: Resource, estate: Estate) -> Iterator[str]:
    """By a token or by users with roles."""
    if not (cache.given("authToken") or cache.given("userGroupIds")):
        yield "there is neither an auth token nor a user group"


@assertion(
    32, "Caches fail over to another zone", "EC.3", on=[_GROUP], family="ElastiCache", severity="medium"
)
def failover(cache: Resource, estate: Estate) -> Iterator[str]:
    """By themselves."""
    for option in ("automaticFailoverEnabled", "multiAzEnabled"):
        if not is_set(cache, option):
            yield f"{option} is not true"


@assertion(33, "Caches are saved for 7 days", "EC.1", on=[_GROUP], family="ElastiCache", severity="medium")
def snapshots(cache: Resource, estate: Estate) -> Iterator[str]:
    """Once a day."""
    found = number(cache, "snapshotRetentionLimit")
    if found is None or found < _SNAPSHOT_DAYS:
        yield f"snapshots are kept for {found or 0:g} days, not {_SNAPSHOT_DAYS}"


@assertion(
    34, "Caches have a subnet group of their own", on=[_GROUP], family="ElastiCache", severity="medium"
)
def subnets(cache: Resource, estate: Estate) -> Iterator[str]:
    """The account's default one is in the default VPC."""
    if not estate.targets(cache, "subnetGroupName", _SUBNETS):
        yield "the subnet group is none of this stack"
