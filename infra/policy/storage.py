"""Assertions about S3."""

from collections.abc import Iterator, Mapping

from infra.policy.model import Estate, Resource, dig
from infra.policy.registry import assertion
from infra.policy.rules import customer_key, is_anyone, is_set, many, statements, unread

_BUCKET = "aws:s3/bucket:Bucket"
_BLOCK = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
_VERSIONING = "aws:s3/bucketVersioning:BucketVersioning"
_LIFECYCLE = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
_ENCRYPTION = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
_POLICY = "aws:s3/bucketPolicy:BucketPolicy"
_OWNERSHIP = "aws:s3/bucketOwnershipControls:BucketOwnershipControls"
_LOGGING = "aws:s3/bucketLogging:BucketLogging"
_LOCK = "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration"
_BALANCER = "aws:lb/loadBalancer:LoadBalancer"

_FLAGS = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
_BACKUP = "backup"


def receives_logs(bucket: Resource, estate: Estate) -> bool:
    """Whether AWS services write access logs here; they can only under S3's own key."""
    return bool(
        estate.users(bucket, "targetBucket", _LOGGING) or estate.users(bucket, "accessLogs", _BALANCER)
    )


@assertion(41, "Buckets are closed to the public", on=[_BUCKET], family="S3", severity="critical")
def closed(bucket: Resource, estate: Estate) -> Iterator[str]:
    """All four flags."""
    blocks = estate.users(bucket, "bucket", _BLOCK)
    if not blocks:
        yield "the bucket has no public access block"
    for block in blocks:
        missing = [flag for flag in _FLAGS if not is_set(block, flag)]
        if missing:
            yield f"public access is not blocked by {', '.join(missing)}"


@assertion(
    42,
    "Buckets keep versions, and old parts and versions go",
    on=[_BUCKET],
    family="S3",
    severity="medium",
)
def aged(bucket: Resource, estate: Estate) -> Iterator[str]:
    """Versioning, a lifecycle, and an end for uploads that were never finished."""
    versions = estate.users(bucket, "bucket", _VERSIONING)
    if not any(is_set(item, "versioningConfiguration.status", "Enabled") for item in versions):
        yield "versioning is off"
    lifecycles = estate.users(bucket, "bucket", _LIFECYCLE)
    rules = [rule for item in lifecycles for rule in item.items("rules") if dig(rule, "status") == "Enabled"]
    if not rules:
        yield "there is no lifecycle rule"
    elif not any(dig(rule, "abortIncompleteMultipartUpload.daysAfterInitiation") for rule in rules):
        yield "uploads that were never finished are kept for ever"


@assertion(
    43,
    "Buckets are encrypted under a customer key, take TLS only and know no ACLs",
    on=[_BUCKET],
    family="S3",
)
def guarded(bucket: Resource, estate: Estate) -> Iterator[str]:
    """A bucket for access logs is under S3's own key: the services that write them can do no other."""
    encryption = estate.users(bucket, "bucket", _ENCRYPTION)
    default = "rules.applyServerSideEncryptionByDefault"
    if receives_logs(bucket, estate):
        if not encryption:
            yield "the bucket has no encryption"
    elif not any(
        is_set(item, f"{default}.sseAlgorithm", "aws:kms")
        and customer_key(item, f"{default}.kmsMasterKeyId", estate)
        for item in encryption
    ):
        yield "the bucket is not encrypted under a customer key"
    yield from _tls(estate.users(bucket, "bucket", _POLICY))
    owners = estate.users(bucket, "bucket", _OWNERSHIP)
    if not any(is_set(item, "rule.objectOwnership", "BucketOwnerEnforced") for item in owners):
        yield "ACLs are allowed: the owner is not enforced"


def _tls(policies: list[Resource]) -> Iterator[str]:
    documents = [statements(item.get("policy")) for item in policies]
    if policies and None in documents:
        yield unread("the bucket policy")
    elif not any(_denies_plain(item) for document in documents for item in document or []):
        yield "the bucket policy does not refuse requests without TLS"


def _denies_plain(statement: Mapping[str, object]) -> bool:
    condition = dig(statement, "Condition.Bool")
    secure = condition.get("aws:SecureTransport") if isinstance(condition, Mapping) else None
    return (
        statement.get("Effect") == "Deny"
        and is_anyone(statement.get("Principal"))
        and "s3:*" in many(statement.get("Action"))
        and str(secure).lower() == "false"
    )


@assertion(44, "Buckets log access; backups cannot be deleted", on=[_BUCKET], family="S3", severity="medium")
def logged(bucket: Resource, estate: Estate) -> Iterator[str]:
    """The bucket that receives the logs would log its own writes without end."""
    if not (estate.users(bucket, "bucket", _LOGGING) or receives_logs(bucket, estate)):
        yield "access is not logged"
    if _BACKUP in bucket.name and not (
        is_set(bucket, "objectLockEnabled") and estate.users(bucket, "bucket", _LOCK)
    ):
        yield "backups can be deleted: there is no object lock"
