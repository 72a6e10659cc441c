"""Generated secrets, their rotation, and what the rotation function may do."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from components.aws.scope import Scope
from components.aws.secrets import (
    Rotation,
    Secret,
    SecretArgs,
    Secrets,
    SecretsArgs,
    master_password,
    rotation_statements,
)

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:rotation"


def test_every_name_becomes_an_encrypted_generated_secret(record: Callable[..., Any]) -> None:
    recorded = record(
        lambda: Secrets("app", SecretsArgs(SCOPE, "arn:key", {"jwt": "rolling", "csrf": "value"}))
    )
    assert recorded.kinds() == sorted(["RandomPassword", "Secret", "SecretPolicy", "SecretVersion"] * 2)
    secret = recorded.one("Secret", "app-jwt")
    assert secret["name"] == "tradestack-test-app-jwt"
    assert secret["kmsKeyId"] == "arn:key"
    assert secret["recoveryWindowInDays"] == 30
    assert secret["tags"]["tradestack:rotates"] == "rolling"
    password = recorded.one("RandomPassword", "app-jwt")
    assert (password["length"], password["special"]) == (48, False)


def test_a_secret_refuses_requests_without_tls_and_public_policies(record: Callable[..., Any]) -> None:
    recorded = record(lambda: Secret("jwt", SecretArgs(SCOPE, "arn:key", "Tokens")))
    policy = recorded.one("SecretPolicy")
    statement = json.loads(policy["policy"])["Statement"][0]
    assert (statement["Effect"], statement["Condition"]) == (
        "Deny",
        {"Bool": {"aws:SecureTransport": "false"}},
    )
    assert policy["blockPublicPolicy"] is True


def test_rotation_lets_secrets_manager_call_the_function_for_this_secret(record: Callable[..., Any]) -> None:
    args = SecretsArgs(SCOPE, "arn:key", {"jwt": "growing"}, 90, Rotation(FUNCTION))
    recorded = record(lambda: Secrets("app", args))
    rotation = recorded.one("SecretRotation")
    assert rotation["rotationRules"] == {"automaticallyAfterDays": 90}
    assert rotation["rotationLambdaArn"] == FUNCTION
    assert rotation["rotateImmediately"] is False
    permission = recorded.one("Permission")
    assert permission["principal"] == "secretsmanager.amazonaws.com"
    assert permission["function"] == FUNCTION


def test_the_text_of_a_master_password_is_that_of_rds(record: Callable[..., Any]) -> None:
    args = SecretArgs(
        SCOPE, "arn:key", "Database", kind="database", target="db", wrap=master_password("owner")
    )
    recorded = record(lambda: Secret("db", args))
    text = recorded.one("SecretVersion")["secretString"]
    plain = text["value"] if isinstance(text, dict) else text
    assert json.loads(plain) == {"username": "owner", "password": "generated"}
    assert recorded.one("Secret")["tags"]["tradestack:target"] == "db"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recovery_days": 3}, "recovery_days 3: Secrets Manager allows 0, or 7 to 30"),
        ({"rotation_days": 0}, "rotation_days 0: Secrets Manager allows 1 to 1000"),
        ({"kind": "queue"}, "kind 'queue' of a secret: value, rolling, growing, cache, database"),
        ({"kind": "cache"}, "kind 'cache' with target ''"),
        ({"target": "db"}, "kind 'value' with target 'db'"),
    ],
)
def test_impossible_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SecretArgs(SCOPE, "arn:key", "Tokens", **changes)


def test_the_rotation_function_may_touch_only_what_it_rotates() -> None:
    statements = rotation_statements(
        SCOPE, "arn:key", ["app-jwt"], replication_groups=["cache"], databases=["db"]
    )
    assert [list(item.resources) for item in statements] == [
        ["arn:aws:secretsmanager:us-east-1:123456789012:secret:tradestack-test-app-jwt-??????"],
        ["arn:key"],
        ["arn:aws:elasticache:us-east-1:123456789012:replicationgroup:cache"],
        ["arn:aws:rds:us-east-1:123456789012:db:db"],
    ]
    assert len(rotation_statements(SCOPE, "arn:key", ["app-jwt"])) == 2
