"""Generated secrets in Secrets Manager, and how they are replaced."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pulumi_aws as aws
import pulumi_random as random
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.identity import Statement, policy
from components.aws.scope import Scope

KIND_TAG = "tradestack:rotates"
"""Tag by which `app/functions/rotation.py` knows how a secret is replaced, one of KINDS."""
KINDS = ("value", "rolling", "growing", "cache", "database")
"""A text that opens nothing else; one whose lines are announced before they are used, the last of which are
kept, or all; the token of a cache; the password of a database."""
TARGET_TAG = "tradestack:target"
"""Tag with the replication group or the database instance that the secret opens."""

_NAME_LIMIT = 512
_LENGTH = 48
"""Characters; letters and digits only, which every service takes. ElastiCache allows 16 to 128."""
_RECOVERY_DAYS = 30
_ROTATION_DAYS = 30


@dataclass(frozen=True)
class Rotation:
    """By what secrets are replaced."""

    function_arn: Input[str]
    """Lambda function with the handler of `app/functions/rotation.py`."""


@dataclass(frozen=True)
class SecretArgs:
    """One generated secret."""

    scope: Scope
    """Names and account."""
    key_arn: Input[str]
    """Key of the secret."""
    purpose: str
    """What it opens, in words."""
    rotation: Rotation | None = None
    """By what it is replaced; None never does."""
    rotation_days: int = _ROTATION_DAYS
    """Days between replacements, 1 to 1000."""
    kind: str = "value"
    """How the rotation function replaces it, one of KINDS."""
    target: str = ""
    """Id of the replication group or the database instance; for these kinds only."""
    length: int = _LENGTH
    """Characters of the value."""
    recovery_days: int = _RECOVERY_DAYS
    """Days for which a deleted secret can be had back: 7 to 30, or 0 for not at all."""
    wrap: Callable[[Output[str]], Output[str]] = field(default=lambda value: value)
    """Makes the secret's text from the value; the value itself unless given."""

    def __post_init__(self) -> None:
        if not 1 <= self.rotation_days <= 1000:
            raise ValueError(f"rotation_days {self.rotation_days}: Secrets Manager allows 1 to 1000")
        if self.recovery_days != 0 and not 7 <= self.recovery_days <= 30:
            raise ValueError(f"recovery_days {self.recovery_days}: Secrets Manager allows 0, or 7 to 30")
        if self.kind not in KINDS:
            raise ValueError(f"kind '{self.kind}' of a secret: {', '.join(KINDS)}")
        if (self.kind in ("cache", "database")) != bool(self.target):
            raise ValueError(f"kind '{self.kind}' with target '{self.target}': only cache, database have one")


class Secret(ComponentResource):
    """A secret whose first value is generated here and whose later ones are the rotation function's.

    The state keeps the first value only, encrypted; rotation makes it worthless.
    """

    arn: Output[str]
    """ARN of the secret, known once it has a value."""
    value: Output[str]
    """The first value; a Pulumi secret."""

    def __init__(self, name: str, args: SecretArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Secret", name, None, opts)
        scope, child = args.scope, ResourceOptions(parent=self)
        secret_name = scope.name(name, limit=_NAME_LIMIT)
        generated = random.RandomPassword(
            name, length=args.length, special=False, min_lower=1, min_upper=1, min_numeric=1, opts=child
        )
        about = {KIND_TAG: args.kind, **({TARGET_TAG: args.target} if args.target else {})}
        secret = aws.secretsmanager.Secret(
            name,
            name=secret_name,
            description=args.purpose,
            kms_key_id=args.key_arn,
            recovery_window_in_days=args.recovery_days,
            tags=scope.tags(secret_name, **about),
            opts=child,
        )
        aws.secretsmanager.SecretPolicy(
            name,
            secret_arn=secret.arn,
            policy=_encrypted_only(),
            block_public_policy=True,
            opts=child,
        )
        self.value = generated.result
        version = aws.secretsmanager.SecretVersion(
            name, secret_id=secret.id, secret_string=args.wrap(self.value), opts=child
        )
        if args.rotation is not None:
            self._rotate(name, secret, version, args.rotation, args.rotation_days)
        self.arn = Output.all(secret.arn, version.id).apply(lambda values: str(values[0]))
        self.register_outputs({"arn": self.arn})

    def _rotate(
        self,
        name: str,
        secret: aws.secretsmanager.Secret,
        version: aws.secretsmanager.SecretVersion,
        rotation: Rotation,
        days: int,
    ) -> None:
        allowed = aws.lambda_.Permission(
            name,
            action="lambda:InvokeFunction",
            function=rotation.function_arn,
            principal="secretsmanager.amazonaws.com",
            source_arn=secret.arn,
            opts=ResourceOptions(parent=self),
        )
        aws.secretsmanager.SecretRotation(
            name,
            secret_id=secret.id,
            rotation_lambda_arn=rotation.function_arn,
            rotation_rules={"automatically_after_days": days},
            # What the secret opens may not be there yet; the first time is after the first period.
            rotate_immediately=False,
            opts=ResourceOptions(parent=self, depends_on=[allowed, version]),
        )


@dataclass(frozen=True)
class SecretsArgs:
    """The app's own secrets."""

    scope: Scope
    """Names and account."""
    key_arn: Input[str]
    """Key of the secrets."""
    kinds: Mapping[str, str]
    """How each is replaced, one of KINDS, by what it is for, such as `jwt`; part of its name."""
    rotation_days: int = _ROTATION_DAYS
    """Days between replacements, 1 to 1000."""
    rotation: Rotation | None = None
    """By what they are replaced; None never does."""
    recovery_days: int = _RECOVERY_DAYS
    """Days for which a deleted secret can be had back: 7 to 30, or 0 for not at all."""


class Secrets(ComponentResource):
    """Random texts that nobody has to think of, one secret for each."""

    arns: dict[str, Output[str]]
    """ARNs by name, known once each secret has a value."""

    def __init__(self, name: str, args: SecretsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Secrets", name, None, opts)
        self.arns = {
            item: Secret(
                f"{name}-{item}",
                SecretArgs(
                    scope=args.scope,
                    key_arn=args.key_arn,
                    purpose=f"Generated secret of the trading app: {item}",
                    kind=kind,
                    rotation=args.rotation,
                    rotation_days=args.rotation_days,
                    recovery_days=args.recovery_days,
                ),
                ResourceOptions(parent=self),
            ).arn
            for item, kind in args.kinds.items()
        }
        self.register_outputs({"arns": self.arns})


def secret_pattern(scope: Scope, name: str) -> str:
    """ARN of the secret `name`; Secrets Manager ends it in six characters of its own."""
    return scope.arn("secretsmanager", f"secret:{scope.name(name, limit=_NAME_LIMIT)}-??????")


def rotation_statements(
    scope: Scope,
    key_arn: Input[str],
    secrets: Sequence[str],
    *,
    replication_groups: Sequence[str] = (),
    databases: Sequence[str] = (),
) -> list[Statement]:
    """What the rotation function may do: replace these secrets and tell what they open.

    `secrets` are resource names as given to `Secret`. They and the other ids are plain text, so that the
    function's role does not wait for what the function will serve.
    """
    found = [
        Statement(
            (
                "secretsmanager:DescribeSecret",
                "secretsmanager:GetSecretValue",
                "secretsmanager:PutSecretValue",
                "secretsmanager:UpdateSecretVersionStage",
            ),
            [secret_pattern(scope, name) for name in secrets],
            sid="Replace",
        ),
        Statement(("kms:Decrypt", "kms:GenerateDataKey"), (key_arn,), sid="Encrypt"),
    ]
    if replication_groups:
        arns = [scope.arn("elasticache", f"replicationgroup:{group}") for group in replication_groups]
        actions = ("elasticache:DescribeReplicationGroups", "elasticache:ModifyReplicationGroup")
        found.append(Statement(actions, arns, sid="Caches"))
    if databases:
        arns = [scope.arn("rds", f"db:{identifier}") for identifier in databases]
        found.append(Statement(("rds:DescribeDBInstances", "rds:ModifyDBInstance"), arns, sid="Databases"))
    return found


def master_password(user: str) -> Callable[[Output[str]], Output[str]]:
    """Makes the text that RDS itself writes for a master user, so that readers need not tell them apart."""
    return lambda value: Output.json_dumps({"username": user, "password": value})


def _encrypted_only() -> Output[str]:
    deny: Mapping[str, Mapping[str, str]] = {"Bool": {"aws:SecureTransport": "false"}}
    # In the policy of a secret `*` means this secret.
    return policy(
        [
            Statement(
                ("secretsmanager:*",), ("*",), deny, effect="Deny", principals={"AWS": "*"}, sid="TlsOnly"
            )
        ]
    )
