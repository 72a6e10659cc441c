"""Daily backups by AWS Backup, their copy in another region, and weekly proof that they can be restored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.identity import Role, RoleArgs, Statement, policy, trust
from components.aws.scope import Scope

_NAME_LIMIT = 50
_RULE_LIMIT = 64
_ROTATION_DAYS = 365
_DELETION_WINDOW_DAYS = 30
_FAILED = ("ABORTED", "EXPIRED", "FAILED")
_START_MINUTES, _COMPLETION_MINUTES = 60, 360
_TAG = "Backup"


@dataclass(frozen=True)
class RestoreTest:
    """What is restored every week, and deleted again, to see that it can be."""

    resource_type: str
    """As AWS Backup names it, such as `RDS`."""
    resource_arns: Sequence[Input[str]]
    """What to restore, out of what is backed up."""
    overrides: Mapping[str, Input[str]] = field(default_factory=dict)
    """Where to, in the keys of the resource type: `dbSubnetGroupName` for RDS outside the default VPC."""


@dataclass(frozen=True)
class BackupArgs:
    """What is backed up, how long it is kept, and who hears of failures."""

    scope: Scope
    """Names and account."""
    key_arn: Input[str]
    """Key of the backups."""
    alerts_topic_arn: Input[str]
    """Topic that hears of jobs that fail."""
    protect: bool
    """Pulumi refuses the deletion and the replacement of the vaults and of the copies' key."""
    resources: Sequence[Input[str]] = ()
    """ARNs of what is backed up; without any, all in the account with the tag `Backup` = `tag`."""
    tag: str = "daily"
    """Value of the tag `Backup` that selects a resource, where `resources` is empty."""
    buckets: bool = False
    """Whether S3 buckets are among them; AWS Backup needs more permissions for these."""
    keep_days: int = 30
    """Days for which a backup is kept, and its copy."""
    lock_days: int = 0
    """Days within which nobody without the right to unlock the vault can delete a backup; 0 for no lock."""
    copy_region: str | None = None
    """Region that gets a copy of every backup; None for none."""
    schedule: str = "cron(0 1 * * ? *)"
    """When backups begin."""
    time_zone: str = "Etc/UTC"
    """IANA time zone of that."""
    restore_tests: Sequence[RestoreTest] = ()
    """What is restored for a test; each costs what the resource costs for about an hour a week."""
    restore_schedule: str = "cron(0 8 ? * SUN *)"
    """When the tests begin, UTC."""
    force_destroy: bool = False
    """Deletes the backups together with the vault."""

    def __post_init__(self) -> None:
        if self.keep_days < 1:
            raise ValueError(f"keep_days {self.keep_days}: at least 1")
        if not 0 <= self.lock_days <= self.keep_days:
            raise ValueError(
                f"lock_days {self.lock_days}: 0 to keep_days ({self.keep_days}); "
                "a vault refuses backups that are to go before their lock ends"
            )
        if self.copy_region == self.scope.region:
            raise ValueError(f"copy_region '{self.copy_region}': another region than the stack's own")
        if self.lock_days and self.force_destroy:
            raise ValueError("force_destroy: a locked vault deletes no backup; set lock_days to 0")


class Backup(ComponentResource):
    """A vault, a daily plan, copies in another region and alerts of what fails."""

    vault_name: str
    """Name of the vault; of the copies' vault too."""
    vault_arn: Output[str]
    """ARN of the vault."""
    copy_vault_arn: Output[str] | None
    """ARN of the vault in the other region, if there is one."""

    def __init__(self, name: str, args: BackupArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Backup", name, None, opts)
        self._name, self._args, self._scope = name, args, args.scope
        self._child = ResourceOptions(parent=self)
        self._kept = ResourceOptions(parent=self, protect=args.protect)
        self.vault_name = self._scope.name(name, limit=_NAME_LIMIT)
        vault = self._make_vault(name, args.key_arn)
        self.vault_arn, self.copy_vault_arn = vault.arn, None
        if args.copy_region is not None:
            key = self._make_copy_key(args.copy_region)
            self.copy_vault_arn = self._make_vault(f"{name}-copy", key.arn, args.copy_region).arn
        s3 = ("AWSBackupServiceRolePolicyForS3Backup", "AWSBackupServiceRolePolicyForS3Restore")
        self._role = Role(
            name,
            RoleArgs(
                scope=self._scope,
                trust=trust("backup.amazonaws.com", self._scope),
                managed=(
                    "service-role/AWSBackupServiceRolePolicyForBackup",
                    "service-role/AWSBackupServiceRolePolicyForRestores",
                    *(s3 if args.buckets else ()),
                ),
            ),
            self._child,
        )
        self._make_plan(vault)
        if args.restore_tests:
            self._make_tests(vault)
        self._make_alerts()
        self.register_outputs({"vault_name": self.vault_name, "vault_arn": self.vault_arn})

    def _make_vault(self, name: str, key_arn: Input[str], region: str | None = None) -> aws.backup.Vault:
        vault = aws.backup.Vault(
            name,
            name=self.vault_name,
            kms_key_arn=key_arn,
            force_destroy=self._args.force_destroy,
            region=region,
            tags=self._scope.tags(self.vault_name),
            opts=self._kept,
        )
        if self._args.lock_days:
            # Without `changeable_for_days` this is governance mode, which an administrator can lift.
            aws.backup.VaultLockConfiguration(
                name,
                backup_vault_name=vault.name,
                min_retention_days=self._args.lock_days,
                region=region,
                opts=self._child,
            )
        return vault

    def _make_copy_key(self, region: str) -> aws.kms.Key:
        """A key lives in one region; copies elsewhere need one there."""
        name = f"{self._name}-copy"
        full = self._scope.name(name)
        root = self._scope.arn("iam", "root", region="")
        # In a key policy `*` means this key; without the account's own statement nobody could manage it.
        owner = Statement(("kms:*",), ("*",), principals={"AWS": root}, sid="Account")
        key = aws.kms.Key(
            name,
            description="Copies of backups",
            deletion_window_in_days=_DELETION_WINDOW_DAYS,
            enable_key_rotation=True,
            rotation_period_in_days=_ROTATION_DAYS,
            policy=policy([owner]),
            region=region,
            tags=self._scope.tags(full),
            opts=self._kept,
        )
        aws.kms.Alias(name, name=f"alias/{full}", target_key_id=key.key_id, region=region, opts=self._child)
        return key

    def _make_plan(self, vault: aws.backup.Vault) -> None:
        args = self._args
        copies = [] if self.copy_vault_arn is None else [self.copy_vault_arn]
        plan = aws.backup.Plan(
            self._name,
            name=self.vault_name,
            rules=[
                aws.backup.PlanRuleArgs(
                    rule_name="daily",
                    target_vault_name=vault.name,
                    schedule=args.schedule,
                    schedule_expression_timezone=args.time_zone,
                    start_window=_START_MINUTES,
                    completion_window=_COMPLETION_MINUTES,
                    lifecycle=aws.backup.PlanRuleLifecycleArgs(delete_after=args.keep_days),
                    copy_actions=[
                        aws.backup.PlanRuleCopyActionArgs(
                            destination_vault_arn=arn,
                            lifecycle=aws.backup.PlanRuleCopyActionLifecycleArgs(delete_after=args.keep_days),
                        )
                        for arn in copies
                    ],
                    recovery_point_tags=self._scope.tags(self.vault_name),
                )
            ],
            tags=self._scope.tags(self.vault_name),
            opts=self._child,
        )
        tagged = aws.backup.SelectionSelectionTagArgs(type="STRINGEQUALS", key=_TAG, value=args.tag)
        aws.backup.Selection(
            self._name,
            name=self.vault_name,
            plan_id=plan.id,
            iam_role_arn=self._role.arn,
            resources=list(args.resources) or None,
            selection_tags=None if args.resources else [tagged],
            opts=self._child,
        )

    def _make_tests(self, vault: aws.backup.Vault) -> None:
        plan = aws.backup.RestoreTestingPlan(
            self._name,
            # AWS takes letters, digits and underscores here.
            name=self.vault_name.replace("-", "_"),
            schedule_expression=self._args.restore_schedule,
            start_window_hours=1,
            recovery_point_selection={
                "algorithm": "LATEST_WITHIN_WINDOW",
                "include_vaults": [vault.arn],
                "recovery_point_types": ["SNAPSHOT"],
                "selection_window_days": 7,
            },
            tags=self._scope.tags(self.vault_name),
            opts=self._child,
        )
        for test in self._args.restore_tests:
            kind = test.resource_type.lower()
            aws.backup.RestoreTestingSelection(
                f"{self._name}-{kind}",
                name=self._scope.name(self._name, kind, limit=_NAME_LIMIT).replace("-", "_"),
                restore_testing_plan_name=plan.name,
                iam_role_arn=self._role.arn,
                protected_resource_type=test.resource_type,
                protected_resource_arns=list(test.resource_arns),
                restore_metadata_overrides=dict(test.overrides) or None,
                validation_window_hours=1,
                opts=self._child,
            )

    def _make_alerts(self) -> None:
        # The vault's own notifications know no failures, only ends of jobs, good ones too.
        arn = self._scope.arn("backup", f"backup-vault:{self.vault_name}")
        own = [{"backupVaultName": [self.vault_name]}, {"sourceBackupVaultArn": [arn]}]
        patterns = {
            "failed": (
                ["Backup Job State Change", "Copy Job State Change"],
                {"state": list(_FAILED), "$or": own},
                "A backup or its copy did not succeed",
            ),
        }
        if self._args.restore_tests:
            words = "A restore, perhaps a test, did not succeed"
            patterns["restore-failed"] = (
                ["Restore Job State Change"],
                {"status": ["ABORTED", "FAILED"]},
                words,
            )
        for key, (kinds, detail, what) in patterns.items():
            full = self._scope.name(self._name, key, limit=_RULE_LIMIT)
            rule = aws.cloudwatch.EventRule(
                f"{self._name}-{key}",
                name=full,
                description=what,
                event_pattern=json.dumps({"source": ["aws.backup"], "detail-type": kinds, "detail": detail}),
                tags=self._scope.tags(full),
                opts=self._child,
            )
            aws.cloudwatch.EventTarget(
                f"{self._name}-{key}", rule=rule.name, arn=self._args.alerts_topic_arn, opts=self._child
            )
