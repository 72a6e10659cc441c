"""Sessions: login, the rotation of refresh tokens, logout."""

import asyncio
from collections.abc import Sequence
from typing import Literal
from uuid import uuid4

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import events
from app.auth.accounts import live_user, normalised
from app.auth.context import AuthContext
from app.auth.models import RefreshTokenRow, SessionRow, UserRow
from app.auth.schemas import Tokens
from app.auth.second_factor import SecondFactor, code_needed, wrong_code
from app.auth.throttle import CODE
from app.auth.tokens import REFRESH_SECONDS, SESSION_SECONDS, digest, new_token, scopes
from app.kit import logs, outbox
from app.kit.auth import Principal, unauthenticated
from app.kit.problems import Problem

REUSE_GRACE_SECONDS = 5
"""Two tabs of one browser may come with one token at once: the second is refused, but the family lives on."""
_KEPT_SECONDS = 7 * 86_400
"""Time that an expired session is kept, so that a late reuse of its tokens is still known for one."""
_SWEEP_SECONDS = 3600.0
_log = logs.get(__name__)


class Sessions:
    """Begins, continues and ends sessions. A session is the family of its refresh tokens."""

    def __init__(self, context: AuthContext, second_factor: SecondFactor) -> None:
        self._context = context
        self._second_factor = second_factor
        self._repository = context.repository

    async def login(
        self, email: str, password: SecretStr, code: SecretStr | None, address: str, user_agent: str
    ) -> Tokens:
        """Begin a session.

        An account that does not exist takes as long, counts and is refused like a wrong password.

        Raises:
            Problem: 401 `invalid-credentials` or `second-factor-required`; 403 `wrong-code`; 429; 503.
        """
        try:
            normal = normalised(email)
        except Problem:
            normal = email.strip().lower()
        await self._context.throttle.login(normal, address)
        async with self._context.database.transaction(read_only=True) as session:
            known = await self._repository.user_of(session, normal)
        stored = known.password_hash if known is not None else None
        right = await self._context.passwords.verify(stored, password)
        if known is None or not right:
            raise unauthenticated("invalid-credentials", "The address or the password is wrong.")
        if known.totp_since is not None:
            if code is None:
                raise code_needed()
            await self._context.throttle.attempt(CODE, known.id)
        renewed = None
        if self._context.passwords.is_outdated(known.password_hash):
            renewed = await self._context.passwords.hash(password)
        tokens = await self._begin(known, code, renewed, address, user_agent[:200])
        await self._context.throttle.logged_in(normal, address)
        await self._context.throttle.forget(CODE, known.id)
        return tokens

    async def _begin(
        self, known: UserRow, code: SecretStr | None, renewed: str | None, address: str, user_agent: str
    ) -> Tokens:
        now = self._context.now
        async with self._context.database.transaction() as session:
            user = await self._repository.user(session, known.id, lock=True)
            if user is None or user.password_hash != known.password_hash:
                raise unauthenticated("invalid-credentials", "The password has just changed.")
            told = []
            if user.totp_since is not None:
                if code is None:
                    raise code_needed()
                taken = await self._second_factor.take(session, user, code)
                if taken is None:
                    raise wrong_code()
                told = taken
            if renewed is not None:
                user.password_hash = renewed
            begun = SessionRow(
                id=str(uuid4()),
                user_id=user.id,
                created_at=now,
                used_at=now,
                expires_at=now + SESSION_SECONDS,
                second_factor_at=now if user.totp_since is not None else None,
                address=address,
                user_agent=user_agent,
            )
            session.add(begun)
            await session.flush()
            tokens = self._with_refresh_token(session, user, begun)
            started = events.SessionStarted(
                user=user.id, session=begun.id, address=address, user_agent=user_agent
            )
            await outbox.write(session, [*told, events.of(started)])
        return tokens

    async def refresh(self, token: SecretStr) -> Tokens:
        """Trade a refresh token for the next one and an access token.

        Raises:
            Problem: 401 `invalid-refresh-token`, `refresh-token-spent` when its successor was given out a
                moment ago, or `refresh-token-reused`: somebody else has a copy, so the session has ended.
        """
        now, known = self._context.now, digest(token.get_secret_value())
        async with self._context.database.transaction() as session:
            session_id = await self._repository.take_refresh_token(session, known, now)
            if session_id is None:
                refusal = await self._reused(session, known)
            else:
                live = await self._repository.live_session(session, session_id, now)
                user = await self._repository.user(session, live.user_id) if live is not None else None
                if live is not None and user is not None:
                    live.used_at = now
                    return self._with_refresh_token(session, user, live)
                refusal = _invalid()
        raise refusal

    async def _reused(self, session: AsyncSession, known: str) -> Problem:
        """What a refresh token that cannot be used is refused with; ends its family when it is a copy."""
        now = self._context.now
        old = await self._repository.refresh_token(session, known)
        if old is None or old.used_at is None:
            return _invalid()
        if now - old.used_at <= REUSE_GRACE_SECONDS:
            return unauthenticated("refresh-token-spent", "The refresh token was used a moment ago.")
        family = await self._repository.session(session, old.session_id)
        assert family is not None  # noqa: S101 - a foreign key
        ended = await self._repository.end_sessions(session, family.user_id, now, only=family.id)
        if ended:
            _log.warning("refresh token reused", user=family.user_id, session=family.id)
            told = events.SessionsEnded(user=family.user_id, sessions=ended, reason="refresh-token-reused")
            await outbox.write(session, [events.of(told)])
        return unauthenticated("refresh-token-reused", "The refresh token was used before: log in.")

    async def logout(self, token: SecretStr) -> None:
        """End the session of a refresh token, used or not; an unknown one is no error."""
        async with self._context.database.transaction() as session:
            known = await self._repository.refresh_token(session, digest(token.get_secret_value()))
            found = await self._repository.session(session, known.session_id) if known else None
            if found is not None:
                await self._end(session, found.user_id, "logout", only=found.id)

    async def current(self, principal: Principal) -> Tokens:
        """An access token of the session as it is now; 401 `session-ended`."""
        async with self._context.database.transaction() as session:
            user = await live_user(self._context, session, principal)
            live = await self._repository.session(session, principal.credential_id)
            assert live is not None  # noqa: S101 - live_user found it
            return self._tokens(user, live)

    async def sessions(self, principal: Principal) -> Sequence[SessionRow]:
        """The live sessions of the sender; 401 `session-ended`."""
        async with self._context.database.transaction(read_only=True) as session:
            user = await live_user(self._context, session, principal)
            return await self._repository.sessions(session, user.id, self._context.now)

    async def revoke(self, principal: Principal, session_id: str) -> None:
        """End one session of the sender; 404 `unknown-session`."""
        async with self._context.database.transaction() as session:
            user = await live_user(self._context, session, principal)
            if not await self._end(session, user.id, "revoked", only=session_id):
                raise Problem(404, "unknown-session", "You have no such session.")

    async def revoke_others(self, principal: Principal) -> None:
        """End every session of the sender but the one that asks."""
        async with self._context.database.transaction() as session:
            user = await live_user(self._context, session, principal, lock=True)
            await self._end(session, user.id, "revoked", besides=principal.credential_id)

    async def _end(
        self,
        session: AsyncSession,
        user_id: str,
        reason: Literal["logout", "revoked"],
        *,
        only: str | None = None,
        besides: str | None = None,
    ) -> list[str]:
        now = self._context.now
        ended = await self._repository.end_sessions(session, user_id, now, only=only, besides=besides)
        if ended:
            told = events.SessionsEnded(user=user_id, sessions=ended, reason=reason)
            await outbox.write(session, [events.of(told)])
        return ended

    def _tokens(self, user: UserRow, live: SessionRow) -> Tokens:
        return Tokens(
            access_token=self._context.issuer.access_token(user, live),
            scope=" ".join(scopes(user, live)),
            session_id=live.id,
        )

    def _with_refresh_token(self, session: AsyncSession, user: UserRow, live: SessionRow) -> Tokens:
        token, now = new_token(), self._context.now
        expires = min(now + REFRESH_SECONDS, live.expires_at)
        session.add(RefreshTokenRow(digest=digest(token), session_id=live.id, expires_at=expires))
        return self._tokens(user, live).model_copy(
            update={"refresh_token": token, "refresh_expires_in": expires - now}
        )

    async def sweep(self) -> None:
        """Delete sessions that expired a week ago, now and every hour, until cancelled."""
        while True:
            async with self._context.database.transaction() as session:
                before = self._context.now - _KEPT_SECONDS
                deleted = await self._repository.forget_sessions(session, before)
            _log.info("old sessions deleted", sessions=deleted)
            await asyncio.sleep(_SWEEP_SECONDS)


def _invalid() -> Problem:
    return unauthenticated("invalid-refresh-token", "The refresh token is not valid: log in.")
