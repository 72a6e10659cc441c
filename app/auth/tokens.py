"""Access tokens, which say who somebody is, and refresh tokens and codes, which are only known by digests."""

import hashlib
import secrets
import time
from collections.abc import Callable

import jwt

from app.auth.keys import KeyRing
from app.auth.models import SessionRow, UserRow
from app.kit.auth import ALGORITHM, AUDIENCE, ISSUER, STREAM_AUDIENCE, TOKEN_TYPE, Principal

ACCESS_SECONDS = 900
"""Life of an access token."""
STREAM_SECONDS = 60
"""Life of a token for the price stream: it is used at once, and is written into a message there."""
REFRESH_SECONDS = 14 * 86_400
"""Life of a refresh token: a session that is not used for so long ends."""
SESSION_SECONDS = 30 * 86_400
"""Life of a session, however much it is used."""
USER_SCOPES = ("read", "trade", "withdraw")


def scopes(user: UserRow, session: SessionRow) -> list[str]:
    """What a session may do. Operators do not trade, and administer only after a second factor."""
    if not user.operator:
        return list(USER_SCOPES)
    return ["read", "admin"] if session.second_factor_at is not None else ["read"]


class Issuer:
    """Signs access tokens."""

    def __init__(self, keys: KeyRing, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock

    def access_token(self, user: UserRow, session: SessionRow) -> str:
        """A token of a session as it is now."""
        claims: dict[str, object] = {
            "aud": AUDIENCE,
            "sub": user.id,
            "sid": session.id,
            "scope": " ".join(scopes(user, session)),
        }
        if session.second_factor_at is not None:
            claims["second_factor_at"] = session.second_factor_at
        return self._signed(claims, ACCESS_SECONDS)

    def stream_token(self, principal: Principal) -> str:
        """A token that logs its sender in to the price stream, to read."""
        claims: dict[str, object] = {
            "aud": STREAM_AUDIENCE,
            "sub": principal.user_id,
            "sid": principal.credential_id,
            "scope": "read",
        }
        return self._signed(claims, STREAM_SECONDS)

    def _signed(self, claims: dict[str, object], seconds: int) -> str:
        now, key = int(self._clock()), self._keys.signing
        times = {"iat": now, "nbf": now, "exp": now + seconds}
        every = {"iss": ISSUER, "jti": secrets.token_hex(8), **times}
        return jwt.encode({**claims, **every}, key.private, ALGORITHM, {"kid": key.kid, "typ": TOKEN_TYPE})


def new_token() -> str:
    """A random secret of 256 bits in letters that need no quoting."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What is stored of a random secret: it holds too much chance to be guessed from its hash."""
    return hashlib.sha256(token.encode()).hexdigest()
