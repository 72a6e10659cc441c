"""What the endpoints of the role `auth` take and answer. Secrets in requests do not print."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from app.auth.models import ApiKeyRow, SessionRow
from app.auth.tokens import ACCESS_SECONDS, REFRESH_SECONDS, STREAM_SECONDS

Email = Annotated[str, Field(max_length=254, examples=["ann@example.com"])]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=256)]
Code = Annotated[
    SecretStr, Field(min_length=1, max_length=40, description="Of the authenticator, or recovery.")
]
KeyScope = Literal["read", "trade", "withdraw"]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Registration(_Request):
    """A new account."""

    email: Email
    password: Secret


class Login(_Request):
    """Who logs in; `code` once the second factor is on."""

    email: Email
    password: Secret
    code: Code | None = None


class Refresh(_Request):
    """A refresh token."""

    refresh_token: Secret


class Password(_Request):
    """The password again."""

    password: Secret


class PasswordChange(_Request):
    """The old password and the new one."""

    password: Secret
    new_password: Secret


class Proof(_Request):
    """A code of the second factor."""

    code: Code


class ApiKeyRequest(_Request):
    """A new API key."""

    name: str = Field(min_length=1, max_length=80)
    scopes: list[KeyScope] = Field(min_length=1, max_length=3)
    networks: list[Annotated[str, Field(max_length=49)]] = Field(
        default=[],
        max_length=20,
        description="Addresses or CIDR blocks that may use it; empty for anywhere. `withdraw` needs some.",
        examples=[["203.0.113.7", "2001:db8::/48"]],
    )


class UserView(BaseModel):
    """An account."""

    user_id: str
    email: str
    operator: bool
    second_factor: bool
    """Whether it is switched on."""
    recovery_codes_left: int


class Tokens(BaseModel):
    """What a client goes on with."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the scheme of the header
    expires_in: int = ACCESS_SECONDS
    scope: str
    session_id: str
    refresh_token: str | None = Field(
        default=None, description="Good once; what comes with the next access token replaces it."
    )
    refresh_expires_in: int | None = Field(default=None, examples=[REFRESH_SECONDS])


class StreamToken(BaseModel):
    """What logs in to the price stream: `{"op": "auth", "token": …}` at `/ws`."""

    token: str
    expires_in: int = STREAM_SECONDS


class SessionView(BaseModel):
    """A session that goes on."""

    id: str
    created_at: datetime
    used_at: datetime
    expires_at: datetime
    address: str
    user_agent: str
    current: bool

    @classmethod
    def of(cls, row: SessionRow, current: str) -> "SessionView":
        """From its row; `current` is the session that asks."""
        return cls(
            id=row.id,
            created_at=_time(row.created_at),
            used_at=_time(row.used_at),
            expires_at=_time(row.expires_at),
            address=row.address,
            user_agent=row.user_agent,
            current=row.id == current,
        )


class Enrolment(BaseModel):
    """A second factor that waits for its first code; shown once."""

    secret: str
    uri: str = Field(description="For the authenticator, as a QR code.")


class RecoveryCodes(BaseModel):
    """Codes that each replace one of the authenticator, once; shown once."""

    recovery_codes: list[str]


class ApiKeyView(BaseModel):
    """An API key."""

    id: str
    name: str
    scopes: list[str]
    networks: list[str]
    created_at: datetime

    @classmethod
    def of(cls, row: ApiKeyRow) -> "ApiKeyView":
        """From its row."""
        return cls(**_key(row))


class NewApiKey(ApiKeyView):
    """An API key with its secret; shown once."""

    secret: str

    @classmethod
    def made(cls, row: ApiKeyRow, secret: str) -> "NewApiKey":
        """From its row and the secret."""
        return cls(**_key(row), secret=secret)


class Verified(BaseModel):
    """Who signed a request."""

    user_id: str
    scopes: list[str]
    credential_id: str


def _key(row: ApiKeyRow) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "scopes": row.scopes.split(),
        "networks": row.networks.split(),
        "created_at": _time(row.created_at),
    }


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
