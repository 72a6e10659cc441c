"""Whether a request to withdraw is proved by a second factor."""

from collections.abc import Callable
from typing import Protocol

from app.kit.auth import SECOND_FACTOR_SECONDS, Method, Principal, unauthenticated


class SecondFactor(Protocol):
    """Tells whether a user proved a second factor for what they ask now."""

    def proves(self, user: Principal) -> bool:
        """True when it is proved, False for a user without a second factor.

        Raises:
            Problem: 401 `step-up-required`: there is one, but it was not proved recently.
        """


class SessionSecondFactor(SecondFactor):
    """What the role `auth` says in the access token, after a code at login or at POST /api/auth/step-up.

    API keys may withdraw only when they were made under a second factor and for a list of addresses.
    """

    def __init__(self, clock: Callable[[], int], within: int = SECOND_FACTOR_SECONDS) -> None:
        self._clock = clock
        self._within = within

    def proves(self, user: Principal) -> bool:
        """See `SecondFactor`."""
        if user.method is Method.API_KEY:
            return "withdraw" in user.scopes
        if user.second_factor_at is None:
            return False
        if self._clock() / 1000 - user.second_factor_at > self._within:
            raise unauthenticated(
                "step-up-required",
                "Prove the second factor again.",
                error="insufficient_user_authentication",
                max_age=self._within,
            )
        return True
