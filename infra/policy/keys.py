"""Assertions about keys and secrets."""

from collections.abc import Iterator

from infra.policy.model import Estate, Resource
from infra.policy.registry import assertion
from infra.policy.rules import KEY, is_set, number, open_statements, statements, unread

_SECRET = "aws:secretsmanager/secret:Secret"  # noqa: S105 - a type token
_ROTATION = "aws:secretsmanager/secretRotation:SecretRotation"

_WINDOW_DAYS = 30


@assertion(45, "Keys rotate, are deleted late and are nobody else's", on=[KEY], family="Keys")
def keys(key: Resource, estate: Estate) -> Iterator[str]:
    """A window of 30 days, and no statement for everybody without a condition."""
    if not is_set(key, "enableKeyRotation"):
        yield "the key does not rotate"
    if number(key, "deletionWindowInDays") not in (None, _WINDOW_DAYS) or not _window_known(key):
        yield f"the deletion window is not {_WINDOW_DAYS} days"
    if key.given("policy") and statements(key.get("policy")) is None:
        yield unread("the key policy")
    for name in open_statements(key.get("policy")):
        yield f"the statement {name} of the key policy allows everybody"


def _window_known(key: Resource) -> bool:
    return not key.given("deletionWindowInDays") or number(key, "deletionWindowInDays") is not None


@assertion(46, "Secrets are replaced by themselves", on=[_SECRET], family="Secrets", severity="medium")
def rotation(secret: Resource, estate: Estate) -> Iterator[str]:
    """What RDS keeps is rotated by RDS and is no resource of the stack."""
    if not estate.users(secret, "secretId", _ROTATION):
        yield "the secret is never rotated"
