"""What the role `auth` tells the others, keyed by the user. No event carries a password, code or token."""

from typing import Literal

from app.events.accounts import UserCreated
from app.events.envelope import Envelope
from app.events.registry import Payload, event

PRODUCER = "auth"

__all__ = [
    "ApiKeyCreated",
    "ApiKeyRevoked",
    "PasswordChanged",
    "RecoveryCodeUsed",
    "SecondFactorChanged",
    "SessionStarted",
    "SessionsEnded",
    "UserCreated",
    "UserEmailSet",
    "of",
]


@event("user-events")
class UserEmailSet(Payload):
    """The address of a user, from now on; comes right after UserCreated."""

    user: str
    email: str


@event("user-events")
class PasswordChanged(Payload):
    """A user has another password; the other sessions have ended."""

    user: str


@event("user-events")
class SecondFactorChanged(Payload):
    """A user switched the second factor on or off."""

    user: str
    enabled: bool


@event("user-events")
class RecoveryCodeUsed(Payload):
    """A recovery code took the place of the authenticator."""

    user: str
    left: int
    """Codes that are not used yet."""


@event("user-events")
class SessionStarted(Payload):
    """A user logged in."""

    user: str
    session: str
    address: str
    user_agent: str


@event("user-events")
class SessionsEnded(Payload):
    """Sessions take no refresh token any longer; access tokens of theirs expire within 15 minutes."""

    user: str
    sessions: list[str]
    reason: Literal["logout", "revoked", "refresh-token-reused", "password-changed"]


@event("user-events")
class ApiKeyCreated(Payload):
    """A user made an API key."""

    user: str
    key: str
    scopes: list[str]


@event("user-events")
class ApiKeyRevoked(Payload):
    """An API key signs nothing any longer."""

    user: str
    key: str


def of(
    payload: UserCreated
    | UserEmailSet
    | PasswordChanged
    | SecondFactorChanged
    | RecoveryCodeUsed
    | SessionStarted
    | SessionsEnded
    | ApiKeyCreated
    | ApiKeyRevoked,
) -> Envelope:
    """The event of a payload, in the order of its user."""
    return Envelope.of(payload, key=payload.user, producer=PRODUCER)
