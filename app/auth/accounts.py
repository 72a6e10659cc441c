"""Accounts: registration, and the password."""

from uuid import uuid4

from email_validator import EmailNotValidError, validate_email
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import events
from app.auth.context import AuthContext
from app.auth.models import UserRow
from app.auth.schemas import UserView
from app.auth.throttle import CODE, REGISTER
from app.kit import outbox
from app.kit.auth import Method, Principal, unauthenticated
from app.kit.problems import Problem


class Accounts:
    """Makes accounts and changes their passwords."""

    def __init__(self, context: AuthContext) -> None:
        self._context = context
        self._repository = context.repository

    async def register(self, email: str, password: SecretStr, address: str) -> UserView:
        """Make an account. That an address has one already is told: nothing but a mail could hide it.

        Raises:
            Problem: 422 `invalid-email` or `weak-password`; 409 `email-taken`; 429 `too-many-attempts`.
        """
        await self._context.throttle.attempt(REGISTER, address)
        return await self.create(email, password)

    async def create(self, email: str, password: SecretStr, *, operator: bool = False) -> UserView:
        """Make an account of a user or an operator; raises like `register`."""
        normal = normalised(email)
        await self._context.passwords.check(password, normal)
        user = UserRow(
            id=str(uuid4()),
            email=normal,
            password_hash=await self._context.passwords.hash(password),
            operator=operator,
            created_at=self._context.now,
            totp_secret=None,
            totp_since=None,
            totp_step=0,
        )
        async with self._context.database.transaction() as session:
            if not await self._repository.add_user(session, user):
                raise Problem(409, "email-taken", "There is an account with this address.")
            told = events.UserCreated(user=user.id), events.UserEmailSet(user=user.id, email=normal)
            await outbox.write(session, [events.of(payload) for payload in told])
        return _view(user, 0)

    async def view(self, principal: Principal) -> UserView:
        """The account of the sender; 401 `session-ended` when the session is over."""
        async with self._context.database.transaction(read_only=True) as session:
            user = await live_user(self._context, session, principal)
            return _view(user, await self._repository.recovery_codes_left(session, user.id))

    async def confirm_password(self, principal: Principal, password: SecretStr) -> UserRow:
        """The sender's account, when it is their password.

        Raises:
            Problem: 403 `wrong-password`; 401 `session-ended`; 429 `too-many-attempts`.
        """
        async with self._context.database.transaction(read_only=True) as session:
            user = await live_user(self._context, session, principal)
        await self._context.throttle.attempt(CODE, user.id)
        if not await self._context.passwords.verify(user.password_hash, password):
            raise Problem(403, "wrong-password", "This is not the password of the account.")
        await self._context.throttle.forget(CODE, user.id)
        return user

    async def change_password(self, principal: Principal, password: SecretStr, new: SecretStr) -> None:
        """Set another password and end every other session; raises like `confirm_password` and `register`."""
        user = await self.confirm_password(principal, password)
        await self._context.passwords.check(new, user.email)
        stored = await self._context.passwords.hash(new)
        async with self._context.database.transaction() as session:
            current = await live_user(self._context, session, principal, lock=True)
            current.password_hash = stored
            ended = await self._repository.end_sessions(
                session, user.id, self._context.now, besides=principal.credential_id
            )
            told = [
                events.of(events.PasswordChanged(user=user.id)),
                events.of(events.SessionsEnded(user=user.id, sessions=ended, reason="password-changed")),
            ]
            await outbox.write(session, told if ended else told[:1])


def normalised(email: str) -> str:
    """The one spelling of an address, in lower case; raises Problem 422 `invalid-email`."""
    try:
        return validate_email(email, check_deliverability=False).normalized.lower()
    except EmailNotValidError as error:
        raise Problem(422, "invalid-email", f"email: {error}") from None


async def live_user(
    context: AuthContext, session: AsyncSession, principal: Principal, *, lock: bool = False
) -> UserRow:
    """The sender's account, if their session still goes on; locked to the end of the transaction if wanted.

    What changes an account does not trust an access token alone, which outlives its session.

    Raises:
        Problem: 401 `session-ended`; 403 `session-required` for API keys.
    """
    if principal.method is not Method.TOKEN:
        raise Problem(403, "session-required", "This is not done with an API key: log in.")
    user = await context.repository.user(session, principal.user_id, lock=lock)
    live = await context.repository.live_session(session, principal.credential_id, context.now)
    if live is None or user is None or live.user_id != user.id:
        raise unauthenticated("session-ended", "The session has ended: log in.", error="invalid_token")
    return user


def _view(user: UserRow, codes_left: int) -> UserView:
    return UserView(
        user_id=user.id,
        email=user.email,
        operator=user.operator,
        second_factor=user.totp_since is not None,
        recovery_codes_left=codes_left,
    )
