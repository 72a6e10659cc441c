"""The second factor: codes of an authenticator (TOTP, RFC 6238) and the recovery codes that replace them."""

import base64
import hmac
import secrets

import pyotp
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import events
from app.auth.accounts import Accounts, live_user
from app.auth.context import AuthContext
from app.auth.models import UserRow
from app.auth.schemas import Enrolment, RecoveryCodes
from app.auth.throttle import CODE
from app.auth.tokens import digest
from app.events.envelope import Envelope
from app.kit import outbox
from app.kit.auth import Principal, unauthenticated
from app.kit.problems import Problem

ISSUER_NAME = "Tradestack"
STEP_SECONDS = 30
RECOVERY_CODES = 10
_NEIGHBOURS = 1
"""Steps before and after the present one whose codes are taken: clocks differ, and people type slowly."""


class SecondFactor:
    """Switches the second factor on and off, and checks codes."""

    def __init__(self, context: AuthContext, accounts: Accounts) -> None:
        self._context = context
        self._accounts = accounts
        self._repository = context.repository

    async def enrol(self, principal: Principal, password: SecretStr) -> Enrolment:
        """Make a secret, which counts once a code of it was confirmed.

        The password is asked for: a stolen access token must not lock the owner out.

        Raises:
            Problem: 409 `second-factor-enabled`; 403 `wrong-password`; 429 `too-many-attempts`.
        """
        confirmed = await self._accounts.confirm_password(principal, password)
        secret = pyotp.random_base32()
        async with self._context.database.transaction() as session:
            user = await live_user(self._context, session, principal, lock=True)
            if user.totp_since is not None:
                raise _enabled()
            user.totp_secret = self._context.box.encrypt(secret.encode(), _context_of(user))
        uri = pyotp.TOTP(secret).provisioning_uri(name=confirmed.email, issuer_name=ISSUER_NAME)
        return Enrolment(secret=secret, uri=uri)

    async def confirm(self, principal: Principal, code: SecretStr) -> RecoveryCodes:
        """Switch it on with the first code; the session counts as proved.

        Raises:
            Problem: 409 `second-factor-enabled` or `second-factor-not-enrolled`; 403 `wrong-code`; 429.
        """
        await self._context.throttle.attempt(CODE, principal.user_id)
        async with self._context.database.transaction() as session:
            user = await live_user(self._context, session, principal, lock=True)
            if user.totp_since is not None:
                raise _enabled()
            if user.totp_secret is None:
                raise Problem(409, "second-factor-not-enrolled", "Enrol an authenticator first.")
            if not await self._is_code(session, user, code):
                raise wrong_code()
            user.totp_since = self._context.now
            codes = await self._new_codes(session, user)
            await self._proved(session, principal)
            await outbox.write(session, [events.of(events.SecondFactorChanged(user=user.id, enabled=True))])
        await self._context.throttle.forget(CODE, principal.user_id)
        return codes

    async def switch_off(self, principal: Principal) -> None:
        """Forget the authenticator and the recovery codes. The guard asks for a recent second factor."""
        async with self._context.database.transaction() as session:
            user = await live_user(self._context, session, principal, lock=True)
            user.totp_secret = user.totp_since = None
            await self._repository.replace_recovery_codes(session, user.id, [])
            await outbox.write(session, [events.of(events.SecondFactorChanged(user=user.id, enabled=False))])

    async def new_recovery_codes(self, principal: Principal) -> RecoveryCodes:
        """Replace the recovery codes. The guard asks for a recent second factor."""
        async with self._context.database.transaction() as session:
            user = await live_user(self._context, session, principal, lock=True)
            return await self._new_codes(session, user)

    async def step_up(self, principal: Principal, code: SecretStr) -> None:
        """Prove the second factor of a session again.

        Raises:
            Problem: 403 `wrong-code`; 409 `second-factor-not-enrolled`; 401 `session-ended`; 429.
        """
        await self._context.throttle.attempt(CODE, principal.user_id)
        async with self._context.database.transaction() as session:
            user = await live_user(self._context, session, principal, lock=True)
            if user.totp_since is None:
                raise Problem(409, "second-factor-not-enrolled", "Enrol an authenticator first.")
            told = await self.take(session, user, code)
            if told is None:
                raise wrong_code()
            await self._proved(session, principal)
            await outbox.write(session, told)
        await self._context.throttle.forget(CODE, principal.user_id)

    async def take(self, session: AsyncSession, user: UserRow, code: SecretStr) -> list[Envelope] | None:
        """Use a code of the authenticator or a recovery code; returns what is to be told, None when wrong."""
        if await self._is_code(session, user, code):
            return []
        plain = "".join(code.get_secret_value().split()).replace("-", "").upper()
        if not await self._repository.take_recovery_code(session, user.id, digest(plain), self._context.now):
            return None
        left = await self._repository.recovery_codes_left(session, user.id)
        return [events.of(events.RecoveryCodeUsed(user=user.id, left=left))]

    async def _is_code(self, session: AsyncSession, user: UserRow, code: SecretStr) -> bool:
        """Use a code of the authenticator: it counts once, and none before it counts afterwards."""
        if user.totp_secret is None:
            return False
        given = "".join(code.get_secret_value().split()).encode()
        totp = pyotp.TOTP(self._context.box.decrypt(user.totp_secret, _context_of(user)).decode())
        present = self._context.now // STEP_SECONDS
        fitting = [
            step
            for step in range(present - _NEIGHBOURS, present + _NEIGHBOURS + 1)
            if hmac.compare_digest(totp.generate_otp(step).encode(), given)
        ]
        return bool(fitting) and await self._repository.take_step(session, user.id, max(fitting))

    async def _new_codes(self, session: AsyncSession, user: UserRow) -> RecoveryCodes:
        codes = [base64.b32encode(secrets.token_bytes(10)).decode() for _ in range(RECOVERY_CODES)]
        await self._repository.replace_recovery_codes(session, user.id, [digest(code) for code in codes])
        grouped = ["-".join(code[at : at + 4] for at in range(0, len(code), 4)) for code in codes]
        return RecoveryCodes(recovery_codes=grouped)

    async def _proved(self, session: AsyncSession, principal: Principal) -> None:
        now = self._context.now
        live = await self._repository.live_session(session, principal.credential_id, now)
        if live is not None:
            live.second_factor_at = now


def wrong_code() -> Problem:
    """403 for a code of the second factor that is wrong or was used before."""
    return Problem(403, "wrong-code", "The code is wrong or was used before.")


def code_needed() -> Problem:
    """401 for a login that needs a code, too; it tells that the password is right."""
    return unauthenticated("second-factor-required", "Log in with a code of the second factor, too.")


def _enabled() -> Problem:
    return Problem(409, "second-factor-enabled", "The second factor is on already.")


def _context_of(user: UserRow) -> str:
    return f"totp {user.id}"
