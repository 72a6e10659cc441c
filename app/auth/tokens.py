"""Access tokens, which say who somebody is, and refresh tokens and codes, which are only known by digests."""

import hashlib
import secrets
import time
from collections.abc import Callable

import jwt

from app.auth.keys import KeyRing
from app.auth.models import SessionRow, UserRow
from app.kit.auth import ALGORITHM, AUDIENCE, ISSUER, TOKEN_TYPE

ACCESS_SECONDS = 900
"""Life of an access token."""
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
        now, key = int(self._clock()), self._keys.signing
        claims: dict[str, object] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user.id,
            "sid": session.id,
            "jti": secrets.token_hex(8),
            "scope": " ".join(scopes(user, session)),
            "iat": now,
            "nbf": now,
            "exp": now + ACCESS_SECONDS,
        }
        if session.second_factor_at is not None:
            claims["second_factor_at"] = session.second_factor_at
        return jwt.encode(claims, key.private, ALGORITHM, {"kid": key.kid, "typ": TOKEN_TYPE})


def new_token() -> str:
    """A random secret of 256 bits in letters that need no quoting."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What is stored of a random secret: it holds too much chance to be guessed from its hash."""
    return hashlib.sha256(token.encode()).hexdigest()
