"""Function: replaces secrets of Secrets Manager and tells what they open.

Tags of a secret say what that is: `tradestack:rotates` is `value` (nothing else), `cache` (the auth token of
an ElastiCache replication group) or `database` (the master password of an RDS instance), `tradestack:target`
is the id. `rolling` and `growing` are texts of several lines: the first is in use, the second is announced
and comes into use at the next replacement, the others were in use before. So every reader knows a line before
another one uses it. Of what was in use, `rolling` keeps the last (what is checked), `growing` all (what data
is encrypted with). Secrets Manager calls with the steps createSecret, setSecret, testSecret and finishSecret
and calls again after an error, so each step may run more than once.

A cache takes the old token and the new one from setSecret on. The step retireSecret, which a schedule calls
with the secret's id alone, makes the cache forget the old one once every client has had time to read the new.
"""

import json
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from app.functions import aws

KIND_TAG = "tradestack:rotates"
TARGET_TAG = "tradestack:target"
GRACE = timedelta(hours=1)
"""Time that clients have to read a new secret before the old one stops to open anything."""

_KINDS = ("value", "rolling", "growing", "cache", "database")
_ALPHABET = string.ascii_letters + string.digits
_WAIT = {"Delay": 10, "MaxAttempts": 60}  # ten minutes; a function may run for fifteen


class RotationError(Exception):
    """A step cannot be done; Secrets Manager tries again later."""


@dataclass(frozen=True)
class Clients:
    """Clients of boto3."""

    secrets: Any
    """`secretsmanager`."""
    cache: Any
    """`elasticache`."""
    database: Any
    """`rds`."""
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    """The time."""


@dataclass(frozen=True)
class _Secret:
    """What Secrets Manager knows of a secret, without its value."""

    arn: str
    kind: str
    target: str
    stages: Mapping[str, list[str]]
    """Stages by id of the version."""
    rotated: datetime | None
    """When it was last replaced."""


def handler(event: Mapping[str, str], context: object) -> None:
    """Entry point of the function."""
    rotate(event, Clients(aws.client("secretsmanager"), aws.client("elasticache"), aws.client("rds")))


def rotate(event: Mapping[str, str], clients: Clients) -> None:
    """Do the step that `event` names.

    Raises:
        RotationError: the step is unknown, or the secret is not one that can be rotated so.
    """
    name = event.get("Step", "")
    if name != _RETIRE and name not in _STEPS:
        raise RotationError(f"step '{name}': {', '.join(_STEPS)} or {_RETIRE}")
    secret = _describe(event["SecretId"], clients)
    if name == _RETIRE:
        _retire(secret, clients)
        return
    version = event["ClientRequestToken"]
    stages = secret.stages.get(version)
    if stages is None:
        raise RotationError(f"{secret.arn} has no version {version}")
    if "AWSCURRENT" in stages:
        return
    if "AWSPENDING" not in stages:
        raise RotationError(f"version {version} of {secret.arn} is not pending: {', '.join(stages)}")
    _STEPS[name](secret, version, clients)


def _describe(secret_id: str, clients: Clients) -> _Secret:
    found = clients.secrets.describe_secret(SecretId=secret_id)
    tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
    kind, target = tags.get(KIND_TAG, ""), tags.get(TARGET_TAG, "")
    if kind not in _KINDS:
        raise RotationError(f"{secret_id}: tag {KIND_TAG} is '{kind}', not one of {', '.join(_KINDS)}")
    if kind in ("cache", "database") and not target:
        raise RotationError(f"{secret_id}: tag {TARGET_TAG} is missing")
    stages = found.get("VersionIdsToStages", {})
    return _Secret(found["ARN"], kind, target, stages, found.get("LastRotatedDate"))


def _create(secret: _Secret, version: str, clients: Clients) -> None:
    """Generate the new value, unless an earlier attempt has."""
    if _find(secret, version, clients):
        return
    current = clients.secrets.get_secret_value(SecretId=secret.arn, VersionStage="AWSCURRENT")
    clients.secrets.put_secret_value(
        SecretId=secret.arn,
        ClientRequestToken=version,
        SecretString=_next(current["SecretString"], secret.kind),
        VersionStages=["AWSPENDING"],
    )


def _next(current: str, kind: str) -> str:
    """A new secret of the form of the current one; what else is in its JSON stays."""
    if kind in ("rolling", "growing"):
        return _next_lines(current.splitlines(), keeps_all=kind == "growing")
    if kind != "database":
        return _generate(len(current))
    content = json.loads(current)
    return json.dumps({**content, "password": _generate(len(content["password"]))})


def _next_lines(lines: list[str], *, keeps_all: bool) -> str:
    """The announced line in use, a new one announced; the first time there is none to come into use."""
    new = _generate(len(lines[0]))
    if len(lines) == 1:
        return "\n".join((lines[0], new))
    used, announced, *before = lines
    return "\n".join((announced, new, used, *(before if keeps_all else ())))


def _generate(length: int) -> str:
    """Letters and digits, with one of each kind at least: ElastiCache wants three kinds."""
    kinds = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
    while True:
        value = "".join(secrets.choice(_ALPHABET) for _ in range(length))
        if all(any(character in kind for character in value) for kind in kinds):
            return value


def _set(secret: _Secret, version: str, clients: Clients) -> None:
    """Tell what the secret opens. The cache goes on taking the token of now, too."""
    value = _value(secret, version, clients)
    if secret.kind == "cache":
        _await_cache(secret.target, clients)
        _change_token(secret.target, value, "ROTATE", clients)
    elif secret.kind == "database":
        _await_database(secret.target, clients)
        clients.database.modify_db_instance(
            DBInstanceIdentifier=secret.target,
            MasterUserPassword=json.loads(value)["password"],
            ApplyImmediately=True,
        )


def _test(secret: _Secret, version: str, clients: Clients) -> None:
    """Wait until the change is in force; the function needs no way to the data itself for that."""
    _value(secret, version, clients)
    if secret.kind == "cache":
        _await_cache(secret.target, clients)
    elif secret.kind == "database":
        _await_database(secret.target, clients)


def _finish(secret: _Secret, version: str, clients: Clients) -> None:
    """Make the new value the one that readers get."""
    current = next((key for key, stages in secret.stages.items() if "AWSCURRENT" in stages), None)
    moved = {} if current is None else {"RemoveFromVersionId": current}
    clients.secrets.update_secret_version_stage(
        SecretId=secret.arn, VersionStage="AWSCURRENT", MoveToVersionId=version, **moved
    )


def _retire(secret: _Secret, clients: Clients) -> None:
    """Make a cache forget the token before the current one."""
    if secret.kind != "cache" or secret.rotated is None:
        return
    if clients.now() - secret.rotated < GRACE:
        return
    changed = _await_cache(secret.target, clients).get("AuthTokenLastModifiedDate")
    if changed is not None and changed > secret.rotated:
        return
    current = clients.secrets.get_secret_value(SecretId=secret.arn, VersionStage="AWSCURRENT")
    _change_token(secret.target, current["SecretString"], "SET", clients)


def _find(secret: _Secret, version: str, clients: Clients) -> str:
    """The pending value; empty as long as there is none, for the version exists before its value does."""
    try:
        found = clients.secrets.get_secret_value(
            SecretId=secret.arn, VersionId=version, VersionStage="AWSPENDING"
        )
    except clients.secrets.exceptions.ResourceNotFoundException:
        return ""
    return str(found.get("SecretString", ""))


def _value(secret: _Secret, version: str, clients: Clients) -> str:
    value = _find(secret, version, clients)
    if not value:
        raise RotationError(f"version {version} of {secret.arn} has no value")
    return value


def _change_token(group: str, token: str, strategy: str, clients: Clients) -> None:
    clients.cache.modify_replication_group(
        ReplicationGroupId=group,
        AuthToken=token,
        AuthTokenUpdateStrategy=strategy,
        ApplyImmediately=True,
    )


def _await_cache(group: str, clients: Clients) -> Mapping[str, Any]:
    """Wait until the replication group takes changes; returns its description."""
    waiter = clients.cache.get_waiter("replication_group_available")
    waiter.wait(ReplicationGroupId=group, WaiterConfig=_WAIT)
    found = clients.cache.describe_replication_groups(ReplicationGroupId=group)["ReplicationGroups"][0]
    if found.get("PendingModifiedValues", {}).get("AuthTokenStatus"):
        raise RotationError(f"replication group {group}: a change of its auth token is not in force yet")
    return dict(found)


def _await_database(identifier: str, clients: Clients) -> None:
    """Wait until the instance takes changes and no change of its password is pending."""
    waiter = clients.database.get_waiter("db_instance_available")
    waiter.wait(DBInstanceIdentifier=identifier, WaiterConfig=_WAIT)
    found = clients.database.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"][0]
    if found.get("PendingModifiedValues", {}).get("MasterUserPassword"):
        raise RotationError(f"database {identifier}: a change of its password is not in force yet")


_STEPS: Mapping[str, Callable[[_Secret, str, Clients], None]] = {
    "createSecret": _create,
    "setSecret": _set,
    "testSecret": _test,
    "finishSecret": _finish,
}
_RETIRE = "retireSecret"
