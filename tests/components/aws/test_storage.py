"""Buckets: closed, versioned, encrypted, TLS only, aged as told, and logs that services can write."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from components.aws.scope import Scope
from components.aws.storage import BucketSpec, Storage, StorageArgs

Record = Callable[[Callable[[], object]], Any]
SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")
BUCKETS = (
    BucketSpec("reports", infrequent_days=90),
    BucketSpec("kyc", confidential=True),
    BucketSpec("archive", infrequent_days=30, glacier_days=90, expire_days=2555),
    BucketSpec("backups", lock_days=30),
    BucketSpec("logs", expire_days=365, receives_logs=True),
)
ARGS = StorageArgs(SCOPE, "arn:key", BUCKETS, protect=True)
PURPOSES = {spec.purpose for spec in BUCKETS}


def statements(made: Any, purpose: str) -> dict[str, dict[str, Any]]:
    document = json.loads(made.one("BucketPolicy", purpose)["policy"])
    return {statement["Sid"]: statement for statement in document["Statement"]}


@pytest.fixture
def made(record: Record) -> Any:
    return record(lambda: Storage("storage", ARGS))


def test_every_bucket_is_closed_versioned_and_owned(made: Any) -> None:
    for purpose in PURPOSES:
        assert made.one("Bucket", purpose)["bucket"] == f"tradestack-test-{purpose}-123456789012"
        block = made.one("BucketPublicAccessBlock", purpose)
        flags = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
        assert all(block[flag] is True for flag in flags)
        assert made.one("BucketOwnershipControls", purpose)["rule"] == {
            "objectOwnership": "BucketOwnerEnforced"
        }
        assert made.one("BucketVersioning", purpose)["versioningConfiguration"] == {"status": "Enabled"}


def test_every_bucket_refuses_plain_and_old_connections(made: Any) -> None:
    for purpose in PURPOSES:
        plain = statements(made, purpose)["OnlyTls"]
        assert (plain["Effect"], plain["Action"], plain["Principal"]) == ("Deny", ["s3:*"], {"AWS": "*"})
        assert plain["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        assert plain["Resource"] == [
            f"arn:aws:s3:::tradestack-test-{purpose}-123456789012",
            f"arn:aws:s3:::tradestack-test-{purpose}-123456789012/*",
        ]
        assert statements(made, purpose)["OnlyModernTls"]["Effect"] == "Deny"


def test_data_is_under_the_customer_key_and_only_logs_are_not(made: Any) -> None:
    for purpose in PURPOSES:
        rule = made.one("BucketServerSideEncryptionConfiguration", purpose)["rules"][0]
        default = rule["applyServerSideEncryptionByDefault"]
        if purpose == "logs":
            assert default == {"sseAlgorithm": "AES256"}
        else:
            assert default == {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": "arn:key"}
            assert rule["bucketKeyEnabled"] is True


def test_every_access_is_logged_but_that_to_the_logs(made: Any) -> None:
    logged = {item.name: item.inputs for item in made.custom() if item.typ.endswith(":BucketLogging")}
    assert logged.keys() == PURPOSES - {"logs"}
    assert logged["kyc"]["targetPrefix"] == "s3/kyc/"
    assert {item["targetBucket"] for item in logged.values()} == {"logs-id"}


def test_services_may_write_logs_for_this_account_only(made: Any) -> None:
    found = statements(made, "logs")
    writers = {
        statement["Principal"]["Service"]: statement
        for statement in found.values()
        if statement["Action"] == ["s3:PutObject"]
    }
    trail = writers.pop("cloudtrail.amazonaws.com")
    assert writers.keys() == {
        "logdelivery.elasticloadbalancing.amazonaws.com",
        "delivery.logs.amazonaws.com",
        "logging.s3.amazonaws.com",
    }
    balancers = writers.pop("logdelivery.elasticloadbalancing.amazonaws.com")
    assert "Condition" not in balancers  # they tell nothing of their source
    assert balancers["Resource"][0].endswith("/AWSLogs/123456789012/*")
    for statement in (*writers.values(), found["CheckByDelivery"]):
        assert statement["Condition"]["StringEquals"]["aws:SourceAccount"] == "123456789012"
    assert trail["Resource"][0].endswith("/cloudtrail/AWSLogs/123456789012/*")
    for statement in (trail, found["CheckByTrail"]):
        assert statement["Condition"]["ArnLike"] == {
            "aws:SourceArn": "arn:aws:cloudtrail:us-east-1:123456789012:trail/*"
        }
    for purpose in PURPOSES - {"logs"}:
        assert all(item["Effect"] == "Deny" for item in statements(made, purpose).values())


def test_objects_age_as_told(made: Any) -> None:
    rule = made.one("BucketLifecycleConfiguration", "archive")["rules"][0]
    assert rule["transitions"] == [
        {"storageClass": "STANDARD_IA", "days": 30},
        {"storageClass": "GLACIER", "days": 90},
    ]
    assert rule["expiration"] == {"days": 2555}
    kyc = made.one("BucketLifecycleConfiguration", "kyc")["rules"][0]
    assert "expiration" not in kyc
    assert "transitions" not in kyc
    for purpose in PURPOSES:
        rule = made.one("BucketLifecycleConfiguration", purpose)["rules"][0]
        assert rule["abortIncompleteMultipartUpload"] == {"daysAfterInitiation": 7}
        assert rule["noncurrentVersionExpiration"] == {"noncurrentDays": 90}


def test_only_backups_are_locked(made: Any) -> None:
    assert made.one("BucketObjectLockConfiguration")["rule"] == {
        "defaultRetention": {"mode": "GOVERNANCE", "days": 30}
    }
    locked = {purpose for purpose in PURPOSES if made.one("Bucket", purpose)["objectLockEnabled"]}
    assert locked == {"backups"}


def test_identity_documents_take_no_foreigner_and_no_foreign_key(made: Any) -> None:
    found = statements(made, "kyc")
    foreign = found["OnlyThisAccount"]["Condition"]
    assert foreign["StringNotEquals"] == {"aws:PrincipalAccount": "123456789012"}
    assert foreign["Bool"] == {"aws:PrincipalIsAWSService": "false"}
    header = "s3:x-amz-server-side-encryption-aws-kms-key-id"
    condition = found["OnlyOwnKeys"]["Condition"]
    assert condition == {
        "StringNotLike": {header: "arn:aws:kms:us-east-1:123456789012:key/*"},
        "Null": {header: "false"},
    }
    assert "OnlyThisAccount" not in statements(made, "reports")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"buckets": BUCKETS[:2]}, "one bucket has receives_logs, not none"),
        ({"force_destroy": True}, "either protect or force_destroy"),
    ],
)
def test_impossible_storage_is_refused(record: Record, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record(lambda: Storage("storage", replace(ARGS, **change)))


def test_ages_that_s3_refuses_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="infrequent_days 7; S3 allows at least 30"):
        BucketSpec("x", infrequent_days=7)
    with pytest.raises(ValueError, match=r"rise, not \[90, 30\]"):
        BucketSpec("x", infrequent_days=90, glacier_days=30)
