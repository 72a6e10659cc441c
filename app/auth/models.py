"""Tables of the role `auth`. Times are Unix seconds; secrets are hashed or encrypted."""

from sqlalchemy import BigInteger, Boolean, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.database import Base


class UserRow(Base):
    """Someone who can log in."""

    __tablename__ = "auth_users"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    """Normalised: two spellings of one address are one account."""
    password_hash: Mapped[str] = mapped_column(String(200))
    operator: Mapped[bool] = mapped_column(Boolean)
    """Runs the platform instead of trading on it."""
    created_at: Mapped[int] = mapped_column(BigInteger)
    totp_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Encrypted; without `totp_since` it waits for its first code."""
    totp_since: Mapped[int | None] = mapped_column(BigInteger)
    totp_step: Mapped[int] = mapped_column(BigInteger)
    """Time step of the newest code that was used: no code is used twice."""


class SessionRow(Base):
    """A login and the family of refresh tokens that continue it."""

    __tablename__ = "auth_sessions"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("auth_users.id"), index=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)
    ended_at: Mapped[int | None] = mapped_column(BigInteger)
    second_factor_at: Mapped[int | None] = mapped_column(BigInteger)
    address: Mapped[str] = mapped_column(String(45))
    user_agent: Mapped[str] = mapped_column(String(200))


class RefreshTokenRow(Base):
    """A refresh token, known by its digest; it is kept after its use, so that another use is noticed."""

    __tablename__ = "auth_refresh_tokens"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("auth_sessions.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[int | None] = mapped_column(BigInteger)


class RecoveryCodeRow(Base):
    """A code that replaces one of the authenticator, once."""

    __tablename__ = "auth_recovery_codes"

    user_id: Mapped[str] = mapped_column(ForeignKey("auth_users.id"), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    used_at: Mapped[int | None] = mapped_column(BigInteger)


class ApiKeyRow(Base):
    """A key for programs; its secret is encrypted because a signature cannot be checked with a hash."""

    __tablename__ = "auth_api_keys"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("auth_users.id"), index=True)
    name: Mapped[str] = mapped_column(String(80))
    scopes: Mapped[str] = mapped_column(String(40))
    """Separated by spaces."""
    networks: Mapped[str] = mapped_column(String(1000))
    """Where requests may come from, separated by spaces; empty for anywhere."""
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[int] = mapped_column(BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(BigInteger)
