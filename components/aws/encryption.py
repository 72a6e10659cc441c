"""Customer-managed keys."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, Output, ResourceOptions

from components.aws.identity import Statement, policy
from components.aws.scope import Scope

_USE = ("kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*")
_ROTATION_DAYS = 365
_DELETION_WINDOW_DAYS = 30


@dataclass(frozen=True)
class KeyArgs:
    """A key for one class of data."""

    scope: Scope
    """Names and account."""
    purpose: str
    """What it encrypts, in words."""
    services: Sequence[str] = ()
    """AWS services that use it on the account's behalf, such as `logs.us-east-1.amazonaws.com`."""
    protect: bool = False
    """Refuses its deletion by Pulumi; what it encrypts would be lost."""


class Key(ComponentResource):
    """A symmetric key that rotates every year and is deleted 30 days after it is asked for."""

    arn: Output[str]
    """ARN of the key."""
    key_id: Output[str]
    """Id of the key."""

    def __init__(self, name: str, args: KeyArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Key", name, None, opts)
        alias = f"alias/{args.scope.name(name)}"
        key = aws.kms.Key(
            name,
            description=args.purpose,
            deletion_window_in_days=_DELETION_WINDOW_DAYS,
            enable_key_rotation=True,
            rotation_period_in_days=_ROTATION_DAYS,
            policy=policy(_statements(args)),
            tags=args.scope.tags(args.scope.name(name)),
            opts=ResourceOptions(parent=self, protect=args.protect),
        )
        aws.kms.Alias(name, name=alias, target_key_id=key.key_id, opts=ResourceOptions(parent=self))
        self.arn, self.key_id = key.arn, key.key_id
        self.register_outputs({"arn": self.arn})


def _own(service: str, scope: Scope) -> dict[str, dict[str, str]]:
    """When `service` acts for this account, by what it tells: not every one tells the account itself."""
    if service.startswith("logs."):
        return {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": scope.arn("logs", "*")}}
    if service == "cloudtrail.amazonaws.com":
        return {"ArnLike": {"aws:SourceArn": scope.arn("cloudtrail", "trail/*")}}
    if service == "events.amazonaws.com":
        # To an encrypted topic it says nothing of its source (SNS developer guide, key management).
        return {"ArnLike": {"kms:EncryptionContext:aws:sns:topicArn": scope.arn("sns", "*")}}
    return {"StringEquals": {"aws:SourceAccount": scope.account}}


def _statements(args: KeyArgs) -> list[Statement]:
    root = args.scope.arn("iam", "root", region="")
    # In a key policy `*` means this key; without the account's own statement nobody could manage it.
    owner = Statement(("kms:*",), ("*",), principals={"AWS": root}, sid="Account")
    services = [
        Statement(
            (*_USE, "kms:CreateGrant"),
            ("*",),
            _own(service, args.scope),
            principals={"Service": service},
            sid="Use" + "".join(part.capitalize() for part in service.replace(".", "-").split("-")[:-2]),
        )
        for service in args.services
    ]
    return [owner, *services]
