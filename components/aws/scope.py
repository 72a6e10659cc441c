"""Where a stack's AWS resources live: their common name, account and region."""

import hashlib
from dataclasses import dataclass


def safe_name(*parts: str, limit: int) -> str:
    """`parts` joined by `-` within `limit` characters; what is too long ends in a hash of the whole.

    Limits are AWS's own: 32 for a target group or load balancer, 40 for a replication group, 64 for a role.

    Raises:
        ValueError: `limit` leaves no room for a hash.
    """
    if limit < 12:
        raise ValueError(f"limit {limit}: at least 12, so that a shortened name can end in a hash")
    name = "-".join(parts)
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - 9].rstrip('-')}-{digest}"


@dataclass(frozen=True)
class Scope:
    """What every AWS component needs to name its resources and to write ARNs that a plan can show."""

    prefix: str
    """First part of every physical name, such as `tradestack-prod`."""
    account: str
    """Twelve-digit account."""
    region: str
    """Region, such as `us-east-1`."""
    partition: str = "aws"
    """AWS partition of the ARNs."""

    def name(self, *parts: str, limit: int = 63) -> str:
        """Physical name of a resource, within AWS's `limit` in characters."""
        return safe_name(self.prefix, *parts, limit=limit)

    def bucket(self, purpose: str) -> str:
        """Name of an S3 bucket, which must be unique in the whole partition."""
        return safe_name(self.prefix, purpose, self.account, limit=63)

    def arn(self, service: str, resource: str, *, region: str | None = None) -> str:
        """ARN in this account; `region` is the stack's unless given, empty for global services."""
        where = self.region if region is None else region
        return f"arn:{self.partition}:{service}:{where}:{self.account}:{resource}"

    def tags(self, name: str, **more: str) -> dict[str, str]:
        """Tags of one resource; what all share comes from the provider's default tags."""
        return {"Name": name, **more}
