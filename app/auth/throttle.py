"""Pauses for those who guess: per account, per address and per pair of them."""

import hashlib
import math
import time
from collections.abc import Callable

from app.auth.counters import Counters, Limit
from app.kit.problems import Problem

_HOUR = 3600.0
_DAY = 24 * _HOUR
_LONGEST = 900.0
"""A quarter of an hour: what somebody else's guessing can cost an account's owner at a time."""

PAIR = Limit("login-pair", 5, 30.0, _LONGEST, _DAY)
"""One address guesses at one account."""
ACCOUNT = Limit("login-account", 20, 30.0, _LONGEST, _DAY)
"""Many addresses guess at one account."""
ADDRESS = Limit("login-address", 50, 30.0, _LONGEST, _HOUR)
"""One address guesses at many accounts; an office may log in behind one address."""
CODE = Limit("code", 5, 30.0, _LONGEST, _DAY)
"""Somebody who is logged in, or knows the password, guesses codes of the second factor or the password."""
REGISTER = Limit("register", 20, 60.0, _LONGEST, _HOUR)
"""One address makes accounts, or asks which exist."""


class Throttle:
    """Counts attempts in the cache. Accounts that do not exist count alike: nothing tells them apart."""

    def __init__(self, counters: Counters, clock: Callable[[], float] = time.time) -> None:
        self._counters = counters
        self._clock = clock

    async def login(self, email: str, address: str) -> None:
        """Count an attempt to log in.

        Raises:
            Problem: 429 `too-many-attempts` with Retry-After.
            Unavailable: the cache is away.
        """
        for limit, subject in _logins(email, address):
            await self.attempt(limit, subject)

    async def logged_in(self, email: str, address: str) -> None:
        """The attempt was no guess. The address keeps its other attempts: one account of a guesser's own
        must not buy guesses at others."""
        for limit, subject in _logins(email, address):
            if limit is ADDRESS:
                await self._counters.take_back(limit, subject)
            else:
                await self._counters.forget(limit, subject)

    async def attempt(self, limit: Limit, subject: str) -> None:
        """Count an attempt of one kind; raises like `login`."""
        wait = await self._counters.attempt(limit, subject, self._clock())
        if wait > 0:
            seconds = math.ceil(wait)
            raise Problem(
                429,
                "too-many-attempts",
                f"Too many attempts: wait {seconds} s.",
                headers={"Retry-After": str(seconds)},
            )

    async def forget(self, limit: Limit, subject: str) -> None:
        """The attempts were no guesses."""
        await self._counters.forget(limit, subject)


def _logins(email: str, address: str) -> tuple[tuple[Limit, str], ...]:
    account = hashlib.sha256(email.encode()).hexdigest()[:32]
    return (PAIR, f"{account}:{address}"), (ACCOUNT, account), (ADDRESS, address)
