"""The audit trail of the account, and alarms on what nobody should do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.alerts import Alarm, make_alarm
from components.aws.identity import Role, RoleArgs, Statement, trust
from components.aws.scope import Scope
from components.skips import Skip

LOG_PREFIX = "cloudtrail"
"""Where the trail's files are in the log bucket."""
_PERIOD_SECONDS = 300


@dataclass(frozen=True)
class Watch:
    """Events of the trail that raise an alarm."""

    name: str
    """Last part of the alarm's name."""
    metric: str
    """Name of the metric that counts them."""
    pattern: str
    """CloudWatch Logs filter pattern over the events."""
    what: str
    """What has happened, in words."""
    limit: int = 0
    """Events in 5 minutes above which it alarms."""


def _events(*names: str, source: str | None = None) -> str:
    chosen = " || ".join(f"($.eventName = {name})" for name in names)
    return f"{{ ($.eventSource = {source}) && ({chosen}) }}" if source else f"{{ {chosen} }}"


WATCHES: tuple[Watch, ...] = (
    Watch(
        "root-use",
        "RootUse",
        '{ $.userIdentity.type = "Root" && $.userIdentity.invokedBy NOT EXISTS '
        '&& $.eventType != "AwsServiceEvent" }',
        "The root user of the account was used",
    ),
    Watch(
        "unauthorized-calls",
        "UnauthorizedCalls",
        '{ ($.errorCode = "*UnauthorizedOperation") || ($.errorCode = "AccessDenied*") }',
        "Many calls were refused: a permission is missing or somebody is trying",
        limit=5,
    ),
    Watch(
        "sign-in-without-mfa",
        "SignInWithoutMfa",
        '{ ($.eventName = "ConsoleLogin") && ($.additionalEventData.MFAUsed != "Yes") '
        '&& ($.userIdentity.type = "IAMUser") && ($.responseElements.ConsoleLogin = "Success") }',
        "Somebody signed in to the console without a second factor",
    ),
    Watch(
        "sign-in-failures",
        "SignInFailures",
        '{ ($.eventName = ConsoleLogin) && ($.errorMessage = "Failed authentication") }',
        "Signing in to the console failed repeatedly",
        limit=3,
    ),
    Watch(
        "key-deletion",
        "KeyDeletion",
        _events("DisableKey", "ScheduleKeyDeletion", source="kms.amazonaws.com"),
        "An encryption key was disabled or will be deleted",
    ),
    Watch(
        "iam-changes",
        "IamChanges",
        _events(
            "DeleteGroupPolicy",
            "DeleteRolePolicy",
            "DeleteUserPolicy",
            "PutGroupPolicy",
            "PutRolePolicy",
            "PutUserPolicy",
            "CreatePolicy",
            "DeletePolicy",
            "CreatePolicyVersion",
            "DeletePolicyVersion",
            "AttachRolePolicy",
            "DetachRolePolicy",
            "AttachUserPolicy",
            "DetachUserPolicy",
            "AttachGroupPolicy",
            "DetachGroupPolicy",
        ),
        "Permissions were changed",
    ),
    Watch(
        "trail-changes",
        "TrailChanges",
        _events("CreateTrail", "UpdateTrail", "DeleteTrail", "StartLogging", "StopLogging"),
        "The audit trail was changed",
    ),
    Watch(
        "bucket-policy-changes",
        "BucketPolicyChanges",
        _events(
            "PutBucketAcl",
            "PutBucketPolicy",
            "PutBucketCors",
            "PutBucketLifecycle",
            "PutBucketReplication",
            "DeleteBucketPolicy",
            "DeleteBucketCors",
            "DeleteBucketLifecycle",
            "DeleteBucketReplication",
            source="s3.amazonaws.com",
        ),
        "The rules of a bucket were changed",
    ),
    Watch(
        "security-group-changes",
        "SecurityGroupChanges",
        _events(
            "AuthorizeSecurityGroupIngress",
            "AuthorizeSecurityGroupEgress",
            "RevokeSecurityGroupIngress",
            "RevokeSecurityGroupEgress",
            "CreateSecurityGroup",
            "DeleteSecurityGroup",
        ),
        "Security groups were changed",
    ),
    Watch(
        "network-changes",
        "NetworkChanges",
        _events(
            "CreateVpc",
            "DeleteVpc",
            "ModifyVpcAttribute",
            "CreateRoute",
            "ReplaceRoute",
            "DeleteRoute",
            "CreateRouteTable",
            "DeleteRouteTable",
            "CreateNetworkAcl",
            "DeleteNetworkAcl",
            "CreateInternetGateway",
            "AttachInternetGateway",
            "DeleteInternetGateway",
        ),
        "The network was changed",
    ),
)
"""What is watched: the log metric filters of the CIS AWS Foundations Benchmark that fit one account."""


@dataclass(frozen=True)
class AuditArgs:
    """Where the trail goes and who hears of what it shows."""

    scope: Scope
    """Names and account."""
    key_arn: Input[str]
    """Key of the trail's files; its policy must let CloudTrail use it."""
    log_key_arn: Input[str]
    """Key of the log group; its policy must let CloudWatch Logs use it."""
    log_days: int
    """Days for which the log group keeps events; the files in the bucket have a lifecycle of their own."""
    bucket: Input[str]
    """Name of the log bucket, whose policy must let CloudTrail write below LOG_PREFIX; pass its `ready`."""
    alerts_topic_arn: Input[str]
    """Topic that hears of alarms."""
    data_bucket_arns: Sequence[Input[str]] = ()
    """Buckets of which every read and write of an object is recorded too; those events cost money."""
    insights: bool = False
    """Also records unusual rates of calls and of errors; those events cost money."""
    watches: Sequence[Watch] = WATCHES
    """Events that raise an alarm."""


class Audit(ComponentResource):
    """A trail of every region, with validated files, in the log bucket and in CloudWatch."""

    trail_arn: Output[str]
    """ARN of the trail."""
    log_group_name: str
    """Name of the log group."""

    def __init__(self, name: str, args: AuditArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Audit", name, None, opts)
        child = ResourceOptions(parent=self)
        scope = args.scope
        self.log_group_name = f"/aws/cloudtrail/{scope.prefix}"
        group = aws.cloudwatch.LogGroup(
            name,
            name=self.log_group_name,
            kms_key_id=args.log_key_arn,
            retention_in_days=args.log_days,
            tags=scope.tags(self.log_group_name),
            opts=child,
        )
        streams = scope.arn(
            "logs", f"log-group:{self.log_group_name}:log-stream:{scope.account}_CloudTrail_{scope.region}*"
        )
        role = Role(
            name,
            RoleArgs(
                scope,
                trust("cloudtrail.amazonaws.com", scope),
                (Statement(("logs:CreateLogStream", "logs:PutLogEvents"), (streams,)),),
            ),
            child,
        )
        trail_name = scope.name(name, limit=128)
        trail = aws.cloudtrail.Trail(
            name,
            name=trail_name,
            s3_bucket_name=args.bucket,
            s3_key_prefix=LOG_PREFIX,
            kms_key_id=args.key_arn,
            is_multi_region_trail=True,
            include_global_service_events=True,
            enable_log_file_validation=True,
            enable_logging=True,
            # CloudTrail takes the ARN of the group with all its streams.
            cloud_watch_logs_group_arn=group.name.apply(
                lambda found: scope.arn("logs", f"log-group:{found}:*")
            ),
            cloud_watch_logs_role_arn=role.arn,
            advanced_event_selectors=_selectors(args.data_bucket_arns),
            insight_selectors=[
                {"insight_type": kind} for kind in ("ApiCallRateInsight", "ApiErrorRateInsight")
            ]
            if args.insights
            else [],
            tags=scope.tags(trail_name),
            opts=child,
        )
        for watch in args.watches:
            self._watch(watch, group.name, args)
        self.trail_arn = trail.arn
        self.register_outputs({"trail_arn": self.trail_arn})

    def _watch(self, watch: Watch, group: Output[str], args: AuditArgs) -> None:
        namespace = f"{args.scope.prefix}/audit"
        aws.cloudwatch.LogMetricFilter(
            watch.name,
            name=args.scope.name(watch.name, limit=512),
            log_group_name=group,
            pattern=watch.pattern,
            metric_transformation={
                "name": watch.metric,
                "namespace": namespace,
                "value": "1",
                "default_value": "0",
                "unit": "Count",
            },
            opts=ResourceOptions(parent=self),
        )
        make_alarm(
            watch.name,
            Alarm(
                namespace,
                watch.metric,
                {},
                above=watch.limit,
                statistic="Sum",
                period_seconds=_PERIOD_SECONDS,
                periods=1,
            ),
            scope=args.scope,
            topic_arn=args.alerts_topic_arn,
            what=watch.what,
            parent=self,
        )


def _selectors(buckets: Sequence[Input[str]]) -> list[Any]:
    management = {
        "name": "Management events",
        "field_selectors": [{"field": "eventCategory", "equals": ["Management"]}],
    }
    if not buckets:
        return [management]
    objects = {
        "name": "Objects",
        "field_selectors": [
            {"field": "eventCategory", "equals": ["Data"]},
            {"field": "resources.type", "equals": ["AWS::S3::Object"]},
            {"field": "resources.ARN", "starts_withs": [Output.concat(bucket, "/") for bucket in buckets]},
        ],
    }
    return [management, objects]


SKIPS: tuple[Skip, ...] = (
    Skip(
        "CKV_AWS_252",
        "aws:cloudtrail/trail:Trail",
        "A topic on the trail would send a message for every file written; the alarms on its events tell "
        "what matters.",
    ),
)
"""Findings that are accepted here."""
