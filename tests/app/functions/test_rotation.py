"""Rotation of generated values, of a cache's token and of a database's password."""

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto.elasticache.models import elasticache_backends
from moto.secretsmanager.models import secretsmanager_backends

from app.functions import aws, rotation
from app.functions.rotation import GRACE, Clients, RotationError, rotate

STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")


class Cloud:
    """Clients, and what was asked of the cache and of the database."""

    def __init__(self) -> None:
        self.clients = Clients(
            boto3.client("secretsmanager"), boto3.client("elasticache"), boto3.client("rds")
        )
        self.asked: list[dict[str, Any]] = []
        for client, event in (
            (self.clients.cache, "provide-client-params.elasticache.ModifyReplicationGroup"),
            (self.clients.database, "provide-client-params.rds.ModifyDBInstance"),
        ):
            client.meta.events.register(event, self._listen)

    def _listen(self, params: dict[str, Any], **_: Any) -> None:
        self.asked.append(dict(params))

    def make(self, text: str, **tags: str) -> str:
        listed = [{"Key": f"tradestack:{key}", "Value": value} for key, value in tags.items()]
        made = self.clients.secrets.create_secret(Name=f"s-{uuid4()}", SecretString=text, Tags=listed)
        return made["ARN"]

    def read(self, arn: str, stage: str = "AWSCURRENT") -> str:
        return self.clients.secrets.get_secret_value(SecretId=arn, VersionStage=stage)["SecretString"]

    def step(self, arn: str, step: str, version: str) -> None:
        rotate({"SecretId": arn, "Step": step, "ClientRequestToken": version}, self.clients)

    def begin(self, arn: str) -> str:
        """Do what Secrets Manager does before the first step: announce a version that has no value."""
        version = str(uuid4())
        versions = backend(arn).versions
        versions[version] = {"version_id": version, "version_stages": ["AWSPENDING"], "createdate": 0}
        return version

    def replace(self, arn: str) -> None:
        version = self.begin(arn)
        for step in STEPS:
            self.step(arn, step, version)


def backend(arn: str) -> Any:
    return secretsmanager_backends["123456789012"]["us-east-1"].secrets[arn]


@pytest.fixture
def it(cloud: None) -> Iterator[Cloud]:
    aws.client.cache_clear()
    yield Cloud()
    aws.client.cache_clear()


def make_cache(it: Cloud) -> str:
    it.clients.cache.create_replication_group(
        ReplicationGroupId="cache",
        ReplicationGroupDescription="tests",
        Engine="valkey",
        AuthToken="Old0" * 12,
        TransitEncryptionEnabled=True,
    )
    return it.make("Old0" * 12, rotates="cache", target="cache")


def make_database(it: Cloud) -> str:
    it.clients.database.create_db_instance(
        DBInstanceIdentifier="db", DBInstanceClass="db.t4g.micro", Engine="postgres", AllocatedStorage=20
    )
    text = json.dumps({"username": "owner", "password": "Old0" * 8})
    return it.make(text, rotates="database", target="db")


def test_a_value_is_replaced_by_one_of_its_length(it: Cloud) -> None:
    arn = it.make("Old0" * 12, rotates="value")
    it.replace(arn)
    new = it.read(arn)
    assert (len(new), new.isalnum(), new != "Old0" * 12) == (48, True, True)
    assert it.read(arn, "AWSPREVIOUS") == "Old0" * 12
    assert it.asked == []


@pytest.mark.parametrize(("kind", "kept"), [("rolling", 3), ("growing", 5)])
def test_a_line_is_announced_before_it_is_used_and_known_afterwards(it: Cloud, kind: str, kept: int) -> None:
    arn = it.make("Old0" * 12, rotates=kind)
    texts = [it.read(arn).splitlines()]
    for _ in range(4):
        it.replace(arn)
        texts.append(it.read(arn).splitlines())
    for before, after in pairwise(texts):
        assert after[0] in before  # whoever still reads the text of before takes what is sent now,
        assert before[0] in after  # and what it sends is still taken
        assert {len(line) for line in after} == {48}
    assert len(texts[-1]) == kept == len(set(texts[-1]))
    assert (texts[0][0] in texts[-1]) == (kind == "growing")


def test_the_cache_takes_the_new_token_before_readers_get_it(it: Cloud) -> None:
    arn = make_cache(it)
    version = it.begin(arn)
    it.step(arn, "createSecret", version)
    it.step(arn, "setSecret", version)
    pending = it.read(arn, "AWSPENDING")
    assert it.read(arn) == "Old0" * 12
    assert it.asked == [
        {
            "ReplicationGroupId": "cache",
            "AuthToken": pending,
            "AuthTokenUpdateStrategy": "ROTATE",
            "ApplyImmediately": True,
        }
    ]
    it.step(arn, "testSecret", version)
    it.step(arn, "finishSecret", version)
    assert it.read(arn) == pending


def test_the_old_token_is_retired_when_readers_have_had_time_and_only_once(it: Cloud) -> None:
    arn = make_cache(it)
    rotate({"SecretId": arn, "Step": "retireSecret"}, it.clients)
    assert it.asked == []  # never rotated: there is no old one
    it.replace(arn)
    finished = datetime.now(UTC).replace(microsecond=0)
    backend(arn).rotation_requested = True
    backend(arn).last_rotation_date = int(finished.timestamp())
    group = elasticache_backends["123456789012"]["us-east-1"].replication_groups["cache"]
    group.auth_token_last_modified_date = finished - timedelta(seconds=30)
    it.asked.clear()

    def retire(after: timedelta) -> None:
        clients = dataclasses.replace(it.clients, now=lambda: finished + after)
        rotate({"SecretId": arn, "Step": "retireSecret"}, clients)

    retire(GRACE / 2)
    assert it.asked == []
    retire(GRACE * 2)
    assert [(call["AuthTokenUpdateStrategy"], call["AuthToken"]) for call in it.asked] == [
        ("SET", it.read(arn))
    ]
    group.auth_token_last_modified_date = finished + GRACE * 2
    retire(GRACE * 26)
    assert len(it.asked) == 1


def test_the_password_of_a_database_changes_and_its_user_stays(it: Cloud) -> None:
    arn = make_database(it)
    it.replace(arn)
    new = json.loads(it.read(arn))
    assert (new["username"], len(new["password"])) == ("owner", 32)
    assert it.asked == [
        {"DBInstanceIdentifier": "db", "MasterUserPassword": new["password"], "ApplyImmediately": True}
    ]


@pytest.mark.parametrize("failed", range(len(STEPS)))
def test_any_step_may_be_repeated_after_a_failure(it: Cloud, failed: int) -> None:
    arn = make_database(it)
    version = it.begin(arn)
    for step in STEPS[: failed + 1]:
        it.step(arn, step, version)
    for step in STEPS:  # Secrets Manager begins again with the same version
        it.step(arn, step, version)
    assert {call["MasterUserPassword"] for call in it.asked} == {json.loads(it.read(arn))["password"]}


def test_a_change_that_is_not_in_force_fails_the_test(it: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = make_database(it)
    version = it.begin(arn)
    it.step(arn, "createSecret", version)
    described = it.clients.database.describe_db_instances(DBInstanceIdentifier="db")
    described["DBInstances"][0]["PendingModifiedValues"] = {"MasterUserPassword": "****"}
    monkeypatch.setattr(it.clients.database, "describe_db_instances", lambda **_: described)
    with pytest.raises(RotationError, match="database db: a change of its password is not in force yet"):
        it.step(arn, "testSecret", version)
    assert json.loads(it.read(arn))["password"] == "Old0" * 8


def test_what_cannot_be_rotated_is_refused_by_name(it: Cloud) -> None:
    plain = it.make("text")
    with pytest.raises(RotationError, match="tag tradestack:rotates is ''"):
        it.step(plain, "createSecret", it.begin(plain))
    homeless = it.make("text", rotates="cache")
    with pytest.raises(RotationError, match="tag tradestack:target is missing"):
        it.step(homeless, "createSecret", it.begin(homeless))
    value = it.make("text", rotates="value")
    with pytest.raises(RotationError, match="has no version 0"):
        it.step(value, "createSecret", "0")
    with pytest.raises(RotationError, match="step 'destroy'"):
        it.step(value, "destroy", "0")
    current = backend(value).default_version_id
    it.step(value, "setSecret", current)  # what is current already has nothing left to do
    assert it.read(value) == "text"


def test_the_handler_uses_the_clients_of_the_environment(it: Cloud) -> None:
    arn = it.make("Old0" * 12, rotates="value")
    version = it.begin(arn)
    for step in STEPS:
        rotation.handler({"SecretId": arn, "Step": step, "ClientRequestToken": version}, None)
    assert it.read(arn) != "Old0" * 12
