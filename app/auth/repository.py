"""All SQL of the role `auth`. Nothing here commits."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.models import ApiKeyRow, RecoveryCodeRow, RefreshTokenRow, SessionRow, UserRow
from app.kit.database import Database


class AuthRepository:
    """Users, sessions, refresh tokens, recovery codes and API keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_user(self, session: AsyncSession, user: UserRow) -> bool:
        """Insert; False when the address is taken."""
        values = {column.key: getattr(user, column.key) for column in UserRow.__table__.columns}
        statement = self._database.insert(UserRow).values(**values)
        return await _changed(session, statement.on_conflict_do_nothing(index_elements=["email"])) == 1

    async def user_of(self, session: AsyncSession, email: str) -> UserRow | None:
        """The user with a normalised address."""
        return await session.scalar(select(UserRow).where(UserRow.email == email))

    async def user(self, session: AsyncSession, user_id: str, *, lock: bool = False) -> UserRow | None:
        """The user of an id; locked to the end of the transaction if wanted."""
        return await session.get(UserRow, user_id, with_for_update=lock or None)

    async def take_step(self, session: AsyncSession, user_id: str, step: int) -> bool:
        """Use the code of a time step; False when it, or a later one, was used before."""
        statement = update(UserRow).where(UserRow.id == user_id, UserRow.totp_step < step)
        return await _changed(session, statement.values(totp_step=step)) == 1

    async def live_session(self, session: AsyncSession, session_id: str, now: int) -> SessionRow | None:
        """The session of an id, if it has not ended or expired."""
        return await session.scalar(
            select(SessionRow).where(
                SessionRow.id == session_id, SessionRow.ended_at.is_(None), SessionRow.expires_at > now
            )
        )

    async def sessions(self, session: AsyncSession, user_id: str, now: int) -> Sequence[SessionRow]:
        """The live sessions of a user, the newest first."""
        live = (SessionRow.ended_at.is_(None), SessionRow.expires_at > now)
        wanted = select(SessionRow).where(SessionRow.user_id == user_id, *live)
        return (await session.scalars(wanted.order_by(SessionRow.used_at.desc(), SessionRow.id))).all()

    async def end_sessions(
        self,
        session: AsyncSession,
        user_id: str,
        now: int,
        *,
        only: str | None = None,
        besides: str | None = None,
    ) -> list[str]:
        """End the live sessions of a user, one of them or all but one; returns their ids."""
        statement = update(SessionRow).where(
            SessionRow.user_id == user_id, SessionRow.ended_at.is_(None), SessionRow.expires_at > now
        )
        if only is not None:
            statement = statement.where(SessionRow.id == only)
        if besides is not None:
            statement = statement.where(SessionRow.id != besides)
        ended = await session.scalars(statement.values(ended_at=now).returning(SessionRow.id))
        return sorted(ended.all())

    async def take_refresh_token(self, session: AsyncSession, digest: str, now: int) -> str | None:
        """Use a refresh token; returns its session, or None when it is unknown, used before or expired."""
        statement = update(RefreshTokenRow).where(
            RefreshTokenRow.digest == digest,
            RefreshTokenRow.used_at.is_(None),
            RefreshTokenRow.expires_at > now,
        )
        return await session.scalar(statement.values(used_at=now).returning(RefreshTokenRow.session_id))

    async def refresh_token(self, session: AsyncSession, digest: str) -> RefreshTokenRow | None:
        """A refresh token, used or not."""
        return await session.get(RefreshTokenRow, digest)

    async def session(self, session: AsyncSession, session_id: str) -> SessionRow | None:
        """A session, live or not."""
        return await session.get(SessionRow, session_id)

    async def forget_sessions(self, session: AsyncSession, before: int) -> int:
        """Delete sessions that expired before a time, with their refresh tokens; returns how many."""
        return await _changed(session, delete(SessionRow).where(SessionRow.expires_at < before))

    async def replace_recovery_codes(
        self, session: AsyncSession, user_id: str, digests: Iterable[str]
    ) -> None:
        """These codes are good from now on, and no others."""
        await session.execute(delete(RecoveryCodeRow).where(RecoveryCodeRow.user_id == user_id))
        session.add_all(RecoveryCodeRow(user_id=user_id, digest=digest) for digest in digests)
        await session.flush()

    async def take_recovery_code(self, session: AsyncSession, user_id: str, digest: str, now: int) -> bool:
        """Use a recovery code; False when it is unknown or was used before."""
        statement = update(RecoveryCodeRow).where(
            RecoveryCodeRow.user_id == user_id,
            RecoveryCodeRow.digest == digest,
            RecoveryCodeRow.used_at.is_(None),
        )
        return await _changed(session, statement.values(used_at=now)) == 1

    async def recovery_codes_left(self, session: AsyncSession, user_id: str) -> int:
        """Number of recovery codes that are not used yet."""
        wanted = select(func.count()).where(
            RecoveryCodeRow.user_id == user_id, RecoveryCodeRow.used_at.is_(None)
        )
        return int(await session.scalar(wanted) or 0)

    async def api_key(self, session: AsyncSession, key_id: str) -> ApiKeyRow | None:
        """The API key of an id, unless it was revoked."""
        return await session.scalar(
            select(ApiKeyRow).where(ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None))
        )

    async def api_keys(self, session: AsyncSession, user_id: str) -> Sequence[ApiKeyRow]:
        """The API keys of a user that are not revoked, the oldest first."""
        wanted = select(ApiKeyRow).where(ApiKeyRow.user_id == user_id, ApiKeyRow.revoked_at.is_(None))
        return (await session.scalars(wanted.order_by(ApiKeyRow.created_at, ApiKeyRow.id))).all()

    async def revoke_api_key(self, session: AsyncSession, user_id: str, key_id: str, now: int) -> bool:
        """Revoke a key of a user; False when the user has no such key."""
        statement = update(ApiKeyRow).where(
            ApiKeyRow.id == key_id, ApiKeyRow.user_id == user_id, ApiKeyRow.revoked_at.is_(None)
        )
        return await _changed(session, statement.values(revoked_at=now)) == 1


async def _changed(session: AsyncSession, statement: Any) -> int:
    result = await session.execute(statement)
    assert isinstance(result, CursorResult)  # noqa: S101 - what a statement without rows returns
    return int(result.rowcount)
