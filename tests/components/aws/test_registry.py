"""Images: tags that stay, scans, keys, expiry and who may pull."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from components.aws.registry import Registry, RegistryArgs
from components.aws.scope import Scope

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")
ARGS = RegistryArgs(scope=SCOPE, key_arn="arn:key", repositories=("app", "data/postgres"), keep_images=30)

Record = Callable[[Callable[[], object]], Any]


def test_addresses_and_arns_are_known_before_anything_exists(record: Record) -> None:
    found: list[Registry] = []
    recorded = record(lambda: found.append(Registry("registry", ARGS)))
    assert found[0].repository_urls == {
        "app": "123456789012.dkr.ecr.us-east-1.amazonaws.com/tradestack-test/app",
        "data/postgres": "123456789012.dkr.ecr.us-east-1.amazonaws.com/tradestack-test/data/postgres",
    }
    assert found[0].repository_arns["app"].endswith(":repository/tradestack-test/app")
    assert recorded.one("Repository", "registry-data-postgres")["name"] == "tradestack-test/data/postgres"


def test_tags_never_move_and_images_are_scanned_and_encrypted(record: Record) -> None:
    repository = record(lambda: Registry("registry", ARGS)).one("Repository", "registry-app")
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    assert repository["encryptionConfigurations"] == [{"encryptionType": "KMS", "kmsKey": "arn:key"}]


def test_untagged_images_go_after_a_day_and_the_last_tagged_ones_stay(record: Record) -> None:
    recorded = record(lambda: Registry("registry", ARGS))
    rules = json.loads(recorded.one("LifecyclePolicy", "registry-app")["policy"])["rules"]
    assert [rule["rulePriority"] for rule in rules] == [1, 2]
    untagged, tagged = (rule["selection"] for rule in rules)
    assert (untagged["tagStatus"], untagged["countUnit"], untagged["countNumber"]) == ("untagged", "days", 1)
    assert (tagged["tagStatus"], tagged["countType"]) == ("tagged", "imageCountMoreThan")
    assert tagged["countNumber"] == 30


def test_nobody_outside_the_account_pulls(record: Record) -> None:
    recorded = record(lambda: Registry("registry", ARGS))
    statements = json.loads(recorded.one("RepositoryPolicy", "registry-app")["policy"])["Statement"]
    account, functions = statements
    assert account["Principal"] == {"AWS": "arn:aws:iam::123456789012:root"}
    assert functions["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert "123456789012:function:" in functions["Condition"]["StringLike"]["aws:sourceArn"]
    assert not any("*" in action for item in statements for action in item["Action"])


@pytest.mark.parametrize("protect", [True, False])
def test_protected_repositories_are_not_deleted_with_their_images(record: Record, protect: bool) -> None:
    repository = record(lambda: Registry("r", replace(ARGS, protect=protect))).one("Repository", "r-app")
    assert repository["forceDelete"] is not protect


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repositories": ("App",)}, "repository 'App': lower-case"),
        ({"repositories": ("a" * 250,)}, "at most 256 characters"),
        ({"repositories": ("app", "app")}, "repository 'app': given twice"),
        ({"keep_images": 0}, "images kept 0: from 1 to 1000"),
    ],
)
def test_bad_arguments_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Registry("registry", replace(ARGS, **change))
