"""Backups: how long they are kept, their copies, what is selected, who hears of failures."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from components.aws.backup import Backup, BackupArgs, RestoreTest
from components.aws.scope import Scope

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")


def arguments(**changes: Any) -> BackupArgs:
    given: dict[str, Any] = {
        "scope": SCOPE,
        "key_arn": "arn:key",
        "alerts_topic_arn": "arn:alerts",
        "protect": True,
    }
    return BackupArgs(**{**given, **changes})


def test_a_backup_is_made_every_day_and_kept_for_thirty(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Backup("backup", arguments()))
    assert recorded.one("Vault")["kmsKeyArn"] == "arn:key"
    rules = recorded.one("Plan")["rules"]
    assert len(rules) == 1
    assert rules[0]["schedule"] == "cron(0 1 * * ? *)"
    assert rules[0]["lifecycle"] == {"deleteAfter": 30}
    assert rules[0]["targetVaultName"] == "tradestack-test-backup"
    assert not rules[0]["copyActions"]


def test_what_has_the_tag_is_backed_up_unless_it_is_named(record: Callable[..., Any]) -> None:
    tagged = record(lambda: Backup("backup", arguments())).one("Selection")
    assert tagged["selectionTags"] == [{"type": "STRINGEQUALS", "key": "Backup", "value": "daily"}]
    assert "resources" not in tagged
    named = record(lambda: Backup("backup", arguments(resources=["arn:db"]))).one("Selection")
    assert named["resources"] == ["arn:db"]
    assert "selectionTags" not in named


def test_copies_go_to_another_region_under_a_key_of_that_region(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Backup("backup", arguments(copy_region="us-west-2", lock_days=14)))
    key, vault = recorded.one("Key"), recorded.one("Vault", "backup-copy")
    assert (key["region"], vault["region"]) == ("us-west-2", "us-west-2")
    assert (key["enableKeyRotation"], key["deletionWindowInDays"]) == (True, 30)
    assert recorded.one("Alias")["region"] == "us-west-2"
    locks = [item.inputs for item in recorded.custom() if item.typ.endswith(":VaultLockConfiguration")]
    assert sorted(lock.get("region", "") for lock in locks) == ["", "us-west-2"]
    copies = recorded.one("Plan")["rules"][0]["copyActions"]
    assert [copy["lifecycle"] for copy in copies] == [{"deleteAfter": 30}]
    assert "region" not in recorded.one("Vault", "backup")


def test_a_lock_can_be_lifted_by_an_administrator(record: Callable[..., Any]) -> None:
    lock = record(lambda: Backup("backup", arguments(lock_days=7))).one("VaultLockConfiguration")
    assert lock["minRetentionDays"] == 7
    assert "changeableForDays" not in lock  # with it nobody could, not even AWS
    assert "VaultLockConfiguration" not in record(lambda: Backup("backup", arguments())).kinds()


def test_the_role_is_of_aws_backup_and_knows_buckets_only_when_asked(record: Callable[..., Any]) -> None:
    def attached(**changes: Any) -> set[str]:
        recorded = record(lambda: Backup("backup", arguments(**changes)))
        trust = json.loads(recorded.one("Role")["assumeRolePolicy"])["Statement"][0]
        assert trust["Principal"] == {"Service": "backup.amazonaws.com"}
        found = [item.inputs for item in recorded.custom() if item.typ.endswith(":RolePolicyAttachment")]
        return {item["policyArn"].rsplit("/", 1)[-1] for item in found}

    assert attached() == {"AWSBackupServiceRolePolicyForBackup", "AWSBackupServiceRolePolicyForRestores"}
    assert "AWSBackupServiceRolePolicyForS3Backup" in attached(buckets=True)


def test_operators_hear_of_failures_of_this_vault_only(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Backup("backup", arguments()))
    pattern = json.loads(recorded.one("EventRule")["eventPattern"])
    assert pattern["detail-type"] == ["Backup Job State Change", "Copy Job State Change"]
    assert "COMPLETED" not in pattern["detail"]["state"]
    assert pattern["detail"]["$or"] == [
        {"backupVaultName": ["tradestack-test-backup"]},
        {
            "sourceBackupVaultArn": [
                "arn:aws:backup:us-east-1:123456789012:backup-vault:tradestack-test-backup"
            ]
        },
    ]
    assert recorded.one("EventTarget")["arn"] == "arn:alerts"


def test_a_restore_is_tried_every_week(record: Callable[..., Any]) -> None:
    test = RestoreTest("RDS", ["arn:db"], {"dbSubnetGroupName": "data"})
    recorded = record(lambda: Backup("backup", arguments(restore_tests=[test])))
    plan = recorded.one("RestoreTestingPlan")
    assert plan["name"] == "tradestack_test_backup"
    assert plan["recoveryPointSelection"]["algorithm"] == "LATEST_WITHIN_WINDOW"
    selection = recorded.one("RestoreTestingSelection")
    assert selection["protectedResourceArns"] == ["arn:db"]
    assert selection["restoreMetadataOverrides"] == {"dbSubnetGroupName": "data"}
    rule = json.loads(recorded.one("EventRule", "backup-restore-failed")["eventPattern"])
    assert rule["detail"] == {"status": ["ABORTED", "FAILED"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep_days": 0}, "keep_days 0: at least 1"),
        ({"lock_days": 31}, r"lock_days 31: 0 to keep_days \(30\)"),
        ({"copy_region": "us-east-1"}, "copy_region 'us-east-1': another region"),
        ({"lock_days": 7, "force_destroy": True}, "force_destroy: a locked vault deletes no backup"),
    ],
)
def test_impossible_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(**changes)
