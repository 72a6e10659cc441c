"""Passwords: which are good enough, and their argon2id hashes, off the event loop."""

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import SecretStr

from app.kit.problems import Problem

SHORTEST = 12
LONGEST = 128
"""Longer ones would only cost time to hash."""
_LEAST_SCORE = 3
"""zxcvbn's 'safely unguessable': more than 10^8 guesses."""
_JUDGED = 64
"""Letters that zxcvbn looks at: its time grows with the cube of the length."""
_THREADS = 2
_WAITING = 64
"""Hashes that may be under way or wait; at about 30 ms each, the last one begins within a second."""
T = TypeVar("T")


class Passwords:
    """Hashes with the parameters that OWASP's Password Storage Cheat Sheet names first for argon2id.

    19 MiB of memory, two passes, one lane; two hashes at a time, so that memory stays bounded.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)
        self._threads = ThreadPoolExecutor(_THREADS, "passwords")
        self._waiting = 0
        self._nobodys = self._hasher.hash(secrets.token_urlsafe())

    async def check(self, password: SecretStr, email: str) -> None:
        """Return when a new password is good enough.

        Raises:
            Problem: 422 `weak-password`, with why; 503 `overloaded`.
        """
        text = _normal(password)
        if not SHORTEST <= len(text) <= LONGEST:
            raise _weak(f"A password has {SHORTEST} to {LONGEST} characters.")
        reason = await self._run(lambda: _weakness(text, email))
        if reason is not None:
            raise _weak(f"This password is easy to guess. {reason}".strip())

    async def hash(self, password: SecretStr) -> str:
        """The hash to be stored; raises Problem 503 `overloaded`."""
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    async def verify(self, stored: str | None, password: SecretStr) -> bool:
        """Whether it is the password of a stored hash. Without one it takes as long and is not.

        Raises:
            Problem: 503 `overloaded`.
        """

        def work() -> bool:
            try:
                return self._hasher.verify(stored or self._nobodys, _normal(password)) and stored is not None
            except (VerificationError, InvalidHashError):
                return False

        if len(password.get_secret_value()) > LONGEST:
            return False
        return await self._run(work)

    def is_outdated(self, stored: str) -> bool:
        """Whether a stored hash was made with other parameters than these."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _WAITING:
            raise Problem(
                503, "overloaded", "Too many logins at once; try again.", headers={"Retry-After": "1"}
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _normal(password: SecretStr) -> str:
    """One form for what looks the same, whatever keyboard it comes from (NIST SP 800-63B)."""
    return unicodedata.normalize("NFKC", password.get_secret_value())


def _weakness(text: str, email: str) -> str | None:
    """Why a password is easy to guess; None when it is not."""
    from zxcvbn import zxcvbn  # type: ignore[import-untyped]

    known = [email, *email.split("@"), "tradestack"]
    found = zxcvbn(text[:_JUDGED], user_inputs=known)
    if found["score"] >= _LEAST_SCORE:
        return None
    feedback = found["feedback"]
    return " ".join([feedback["warning"], *feedback["suggestions"]]).strip()


def _weak(detail: str) -> Problem:
    return Problem(422, "weak-password", detail)
