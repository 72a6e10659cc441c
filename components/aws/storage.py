"""Buckets of the platform: reports, identity documents, archive, backups and the logs of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.identity import Statement, policy
from components.aws.scope import Scope
from components.skips import Skip

_ABORT_MULTIPART_DAYS = 7
_INFREQUENT_LEAST_DAYS = 30
"""S3 moves nothing to STANDARD_IA that is younger."""
_LEAST_TLS = "1.2"


@dataclass(frozen=True)
class BucketSpec:
    """One bucket and how long it keeps what is in it."""

    purpose: str
    """Last part of its name, such as `reports`."""
    infrequent_days: int | None = None
    """Age at which objects move to STANDARD_IA, at least 30; None keeps them where they are."""
    glacier_days: int | None = None
    """Age at which objects move to GLACIER (hours to read), after `infrequent_days`."""
    expire_days: int | None = None
    """Age at which objects are deleted; None keeps them."""
    noncurrent_days: int = 90
    """Days for which an overwritten or deleted version can be brought back."""
    lock_days: int | None = None
    """Object lock: days in which no version can be deleted; only at creation, None for no lock."""
    lock_mode: Literal["GOVERNANCE", "COMPLIANCE"] = "GOVERNANCE"
    """GOVERNANCE can be lifted by who has the permission, COMPLIANCE by nobody, not even the account."""
    confidential: bool = False
    """Refuses every principal of another account and every object under a key of another account."""
    receives_logs: bool = False
    """AWS services write their access logs here; exactly one bucket has it."""

    def __post_init__(self) -> None:
        ages = [self.infrequent_days, self.glacier_days, self.expire_days]
        given = [age for age in ages if age is not None]
        if given != sorted(set(given)):
            raise ValueError(
                f"bucket '{self.purpose}': infrequent_days, glacier_days and expire_days rise, not {given}"
            )
        if self.infrequent_days is not None and self.infrequent_days < _INFREQUENT_LEAST_DAYS:
            raise ValueError(
                f"bucket '{self.purpose}': infrequent_days {self.infrequent_days}; S3 allows at least "
                f"{_INFREQUENT_LEAST_DAYS}"
            )


@dataclass(frozen=True)
class StorageArgs:
    """All buckets of a stack."""

    scope: Scope
    """Names and account."""
    key_arn: Input[str]
    """Key of every bucket but the one for logs."""
    buckets: Sequence[BucketSpec]
    """The buckets, one of them for logs."""
    protect: bool
    """Refuses the deletion of the buckets by Pulumi."""
    force_destroy: bool = False
    """Deletes a bucket with all that is in it; never together with `protect`."""


class Storage(ComponentResource):
    """Private, versioned, encrypted buckets that take TLS only and log every access."""

    buckets: dict[str, str]
    """Purpose → name."""
    arns: dict[str, str]
    """Purpose → ARN."""
    ready: dict[str, Output[str]]
    """Purpose → name, known once the bucket and its policy are there."""

    def __init__(self, name: str, args: StorageArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Storage", name, None, opts)
        logs = [spec.purpose for spec in args.buckets if spec.receives_logs]
        if len(logs) != 1:
            raise ValueError(f"storage '{name}': one bucket has receives_logs, not {logs or 'none'}")
        if args.protect and args.force_destroy:
            raise ValueError(f"storage '{name}': either protect or force_destroy")
        self.buckets = {spec.purpose: args.scope.bucket(spec.purpose) for spec in args.buckets}
        self.arns = {
            purpose: f"arn:{args.scope.partition}:s3:::{bucket}" for purpose, bucket in self.buckets.items()
        }
        self.ready = {}
        # The logs bucket first: the others name it as the place of their access logs.
        for spec in sorted(args.buckets, key=lambda spec: not spec.receives_logs):
            target = None if spec.receives_logs else self.ready[logs[0]]
            self.ready[spec.purpose] = self._make(args, spec, target)
        self.register_outputs({"buckets": self.buckets})

    def _make(self, args: StorageArgs, spec: BucketSpec, log_bucket: Output[str] | None) -> Output[str]:
        name, bucket_name = spec.purpose, self.buckets[spec.purpose]
        child = ResourceOptions(parent=self)
        bucket = aws.s3.Bucket(
            name,
            bucket=bucket_name,
            force_destroy=args.force_destroy,
            object_lock_enabled=spec.lock_days is not None,
            tags=args.scope.tags(bucket_name),
            opts=ResourceOptions(parent=self, protect=args.protect),
        )
        closed = aws.s3.BucketPublicAccessBlock(
            name,
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=child,
        )
        aws.s3.BucketOwnershipControls(
            name, bucket=bucket.id, rule={"object_ownership": "BucketOwnerEnforced"}, opts=child
        )
        versioning = aws.s3.BucketVersioning(
            name, bucket=bucket.id, versioning_configuration={"status": "Enabled"}, opts=child
        )
        encryption = aws.s3.BucketServerSideEncryptionConfiguration(
            name, bucket=bucket.id, rules=[_encryption(args, spec)], opts=child
        )
        # S3 refuses two changes of a bucket's access at the same time.
        allowed = aws.s3.BucketPolicy(
            name,
            bucket=bucket.id,
            policy=policy(_statements(args, spec, self.arns[name])),
            opts=ResourceOptions(parent=self, depends_on=[closed]),
        )
        versioned = ResourceOptions(parent=self, depends_on=[versioning])
        aws.s3.BucketLifecycleConfiguration(name, bucket=bucket.id, rules=[_lifecycle(spec)], opts=versioned)
        if spec.lock_days is not None:
            aws.s3.BucketObjectLockConfiguration(
                name,
                bucket=bucket.id,
                rule={"default_retention": {"mode": spec.lock_mode, "days": spec.lock_days}},
                opts=versioned,
            )
        if log_bucket is not None:
            aws.s3.BucketLogging(
                name, bucket=bucket.id, target_bucket=log_bucket, target_prefix=f"s3/{name}/", opts=child
            )
        ready = Output.all(bucket.id, encryption.id, allowed.id)
        return ready.apply(lambda values: str(values[0]))


def _encryption(
    args: StorageArgs, spec: BucketSpec
) -> aws.s3.BucketServerSideEncryptionConfigurationRuleArgsDict:
    # A load balancer can write its access logs only to a bucket under S3's own key.
    default: aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgsDict = (
        {"sse_algorithm": "AES256"}
        if spec.receives_logs
        else {"sse_algorithm": "aws:kms", "kms_master_key_id": args.key_arn}
    )
    return {
        "apply_server_side_encryption_by_default": default,
        "bucket_key_enabled": not spec.receives_logs,
        "blocked_encryption_types": ["SSE-C"],
    }


def _lifecycle(spec: BucketSpec) -> aws.s3.BucketLifecycleConfigurationRuleArgsDict:
    rule: aws.s3.BucketLifecycleConfigurationRuleArgsDict = {
        "id": "age",
        "status": "Enabled",
        "filter": {"prefix": ""},
        "abort_incomplete_multipart_upload": {"days_after_initiation": _ABORT_MULTIPART_DAYS},
        "noncurrent_version_expiration": {"noncurrent_days": spec.noncurrent_days},
    }
    moves = {"STANDARD_IA": spec.infrequent_days, "GLACIER": spec.glacier_days}
    transitions: list[aws.s3.BucketLifecycleConfigurationRuleTransitionArgsDict] = [
        {"storage_class": storage_class, "days": days}
        for storage_class, days in moves.items()
        if days is not None
    ]
    if transitions:
        rule["transitions"] = transitions
    if spec.expire_days is not None:
        rule["expiration"] = {"days": spec.expire_days}
    return rule


def _statements(args: StorageArgs, spec: BucketSpec, arn: str) -> list[Statement]:
    everything = (arn, f"{arn}/*")
    anyone = {"AWS": "*"}

    def deny(sid: str, actions: Sequence[str], conditions: dict[str, dict[str, Input[str]]]) -> Statement:
        return Statement(actions, everything, conditions, effect="Deny", principals=anyone, sid=sid)

    found = [
        deny("OnlyTls", ("s3:*",), {"Bool": {"aws:SecureTransport": "false"}}),
        deny("OnlyModernTls", ("s3:*",), {"NumericLessThan": {"s3:TlsVersion": _LEAST_TLS}}),
    ]
    if spec.confidential:
        foreign: dict[str, dict[str, Input[str]]] = {
            "StringNotEquals": {"aws:PrincipalAccount": args.scope.account},
            "Bool": {"aws:PrincipalIsAWSService": "false"},
        }
        # Without the header S3 takes the bucket's default, so only a header that says otherwise is refused.
        encryption = "s3:x-amz-server-side-encryption"
        key = f"{encryption}-aws-kms-key-id"
        foreign_key: dict[str, dict[str, Input[str]]] = {
            "StringNotLike": {key: args.scope.arn("kms", "key/*")},
            "Null": {key: "false"},
        }
        plain: dict[str, dict[str, Input[str]]] = {
            "StringNotEquals": {encryption: "aws:kms"},
            "Null": {encryption: "false"},
        }
        found += [
            deny("OnlyThisAccount", ("s3:*",), foreign),
            deny("OnlyOwnKeys", ("s3:PutObject",), foreign_key),
            deny("OnlyKms", ("s3:PutObject",), plain),
        ]
    if spec.receives_logs:
        found += _log_writers(args.scope, arn)
    return found


def _log_writers(scope: Scope, arn: str) -> list[Statement]:
    """What the services need that write logs: each below a prefix of its own, for this account only."""
    own: dict[str, dict[str, Input[str]]] = {"StringEquals": {"aws:SourceAccount": scope.account}}
    handed_over: dict[str, dict[str, Input[str]]] = {
        "StringEquals": {
            "aws:SourceAccount": scope.account,
            "s3:x-amz-acl": "bucket-owner-full-control",
        }
    }
    # A load balancer tells its account by the path alone, CloudTrail by the trail.
    nothing: dict[str, dict[str, Input[str]]] = {}
    trails: dict[str, dict[str, Input[str]]] = {
        "ArnLike": {"aws:SourceArn": scope.arn("cloudtrail", "trail/*")}
    }
    own_trail: dict[str, dict[str, Input[str]]] = {
        **trails,
        "StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"},
    }
    logs = f"AWSLogs/{scope.account}/*"
    writers = (
        ("LoadBalancers", "logdelivery.elasticloadbalancing", f"{arn}/alb/*/{logs}", nothing),
        ("NetworkLoadBalancers", "delivery.logs", f"{arn}/nlb/{logs}", handed_over),
        ("AccessLogs", "logging.s3", f"{arn}/s3/*", own),
        ("Trail", "cloudtrail", f"{arn}/cloudtrail/{logs}", own_trail),
    )
    found = [
        Statement(
            ("s3:PutObject",),
            (path,),
            conditions,
            principals={"Service": f"{service}.amazonaws.com"},
            sid=sid,
        )
        for sid, service, path, conditions in writers
    ]
    readers = (("CheckByDelivery", "delivery.logs", own), ("CheckByTrail", "cloudtrail", trails))
    found += [
        Statement(
            ("s3:GetBucketAcl",),
            (arn,),
            conditions,
            principals={"Service": f"{service}.amazonaws.com"},
            sid=sid,
        )
        for sid, service, conditions in readers
    ]
    return found


SKIPS: tuple[Skip, ...] = (
    Skip(
        "CKV_AWS_145",
        "aws:s3/bucket:Bucket",
        "Load balancers write access logs only to buckets under S3's own key (SSE-S3).",
        name="logs",
    ),
    Skip(
        "CKV_AWS_144",
        "aws:s3/bucket:Bucket",
        "What has to survive the loss of a region is copied there by AWS Backup, not by bucket replication.",
    ),
    Skip(
        "CKV2_AWS_62",
        "aws:s3/bucket:Bucket",
        "Only the bucket of identity documents has a reader of its events; the others need none.",
    ),
)
