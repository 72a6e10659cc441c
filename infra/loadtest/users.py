"""Whose orders they are: access tokens, and how they stay good."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from urllib.parse import SplitResult

import httpx
import jwt

from infra.errors import TradestackError

_RENEWED_AFTER = 0.8
"""Share of an access token's life after which the next one is fetched."""
_AGAIN_SECONDS = 2.0
"""Until the next attempt, after one that failed."""


@dataclass
class _Session:
    number: int
    """Which of the tokens it keeps fresh."""
    email: str
    password: str
    refresh: str | None
    """Good once; None when the session is over and the user has to log in again."""
    renew_at: float
    """Moment of the monotonic clock."""


class Users:
    """Access tokens of users who take turns; those of users who logged in are renewed before they expire."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        """Current access tokens; each user keeps its place."""
        self.renewed = 0
        self.renewals_failed = 0
        self._url = ""
        self._tls: SSLContext | bool = True
        self._sessions: list[_Session] = []

    @classmethod
    def of_tokens(cls, tokens: Sequence[str], seconds: float) -> "Users":
        """Users of whom only access tokens are known, for a run of so many seconds.

        Raises:
            TradestackError: a token expires before the run ends, and nothing can renew it.
        """
        ends = [end for token in tokens if (end := _expiry(token)) is not None]
        left = min(ends, default=float("inf")) - time.time()
        if left < seconds:
            raise TradestackError(
                f"an access token is good for {max(left, 0):.0f} s more, and the run takes {seconds:g} s",
                hint="--users FILE logs users in and renews their tokens",
            )
        return cls(list(tokens))

    @classmethod
    def logged_in(
        cls, origin: SplitResult, accounts: Sequence[tuple[str, str]], tls: SSLContext | None
    ) -> "Users":
        """Users by email and password, without second factor; `origin` is that of the role `auth`.

        Raises:
            TradestackError: the role does not answer or does not let a user in.
        """
        users = cls([])
        users._url = f"{origin.scheme}://{origin.netloc}/api/auth"
        users._tls = tls or True
        with httpx.Client(verify=users._tls, trust_env=False, timeout=30) as client:
            for number, (email, password) in enumerate(accounts):
                session = _Session(number, email, password, None, 0.0)
                users._sessions.append(session)
                users.tokens.append("")
                url, body = users._question(session)
                try:
                    answer = client.post(url, json=body)
                except httpx.HTTPError as error:
                    raise TradestackError(f"{url}: {error}") from None
                if not users._take(session, answer):
                    raise TradestackError(
                        f"{url} did not let {email} in: {answer.status_code} {answer.text[:300]}"
                    )
        return users

    async def keep_fresh(self) -> None:
        """Renew tokens as they come to their end, until cancelled."""
        async with httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=30) as client:
            while self._sessions:
                soonest = min(self._sessions, key=lambda session: session.renew_at)
                await asyncio.sleep(max(soonest.renew_at - time.monotonic(), 0))
                url, body = self._question(soonest)
                try:
                    answer = await client.post(url, json=body)
                except httpx.HTTPError:
                    answer = None
                if answer is not None and self._take(soonest, answer):
                    self.renewed += 1
                    continue
                self.renewals_failed += 1
                soonest.renew_at = time.monotonic() + _AGAIN_SECONDS
                if answer is not None and answer.status_code == 401:
                    soonest.refresh = None

    def _question(self, session: _Session) -> tuple[str, dict[str, str]]:
        if session.refresh is not None:
            return f"{self._url}/refresh", {"refresh_token": session.refresh}
        return f"{self._url}/login", {"email": session.email, "password": session.password}

    def _take(self, session: _Session, answer: httpx.Response) -> bool:
        """Go on with an answer's tokens; False when it has none."""
        found = answer.json() if answer.status_code == 200 else {}
        if "access_token" not in found:
            return False
        self.tokens[session.number] = str(found["access_token"])
        session.refresh = found.get("refresh_token")
        session.renew_at = time.monotonic() + _RENEWED_AFTER * float(found["expires_in"])
        return True


def _expiry(token: str) -> float | None:
    """Unix time at which a token ends; None when it does not say so."""
    try:
        return float(jwt.decode(token, options={"verify_signature": False})["exp"])
    except (jwt.InvalidTokenError, KeyError, ValueError, TypeError):
        return None


def read_tokens(path: Path) -> list[str]:
    """Access tokens, one a line.

    Raises:
        TradestackError: the file cannot be read, has none, or has what no token is.
    """
    tokens = _text(path).split()
    if not tokens or not all(token.isascii() for token in tokens):
        raise TradestackError(f"{path} holds no access tokens, one a line")
    return tokens


def read_accounts(path: Path) -> list[tuple[str, str]]:
    """Emails and passwords, one user a line, separated by a space.

    Raises:
        TradestackError: the file cannot be read, has none, or a line is something else.
    """
    accounts = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        email, _, password = line.strip().partition(" ")
        if not email:
            continue
        if "@" not in email or not password.strip():
            raise TradestackError(f"{path}:{number} is not an email and a password, separated by a space")
        accounts.append((email, password.strip()))
    if not accounts:
        raise TradestackError(f"{path} holds no users, an email and a password a line")
    return accounts


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise TradestackError(f"{path} cannot be read: {error}") from None
