"""Events of risk beside MarginCall and PositionLimitBreached of `app.events.trading`.

Money of limits is whole units of the quote currency, everything else smallest units of US dollars.
"""

from typing import Literal

from app.events.accounts import SendAlert
from app.events.envelope import Envelope
from app.events.registry import Payload, event
from app.events.trading import MarginCall, PositionLimitBreached

_PRODUCER = "risk"


@event("risk-events")
class MarginCallEnded(Payload):
    """A margin call needs no answer any longer."""

    account: str
    call_id: int
    reason: Literal["restored", "closed"]
    """`closed`: by a forced close."""


@event("risk-events")
class ForcedClose(Payload):
    """Positions were closed because a margin call was not answered."""

    account: str
    call_id: int
    orders: int
    """How many were sent."""
    debt: int
    """What is still owed."""
    healthy: bool
    """False when nothing was left to sell and the debt is not covered."""


@event("risk-events")
class KillSwitchChanged(Payload):
    """New orders are refused from now on, or taken again."""

    scope: Literal["all", "symbol", "user", "margin"]
    """`margin`: a user whose positions are being closed."""
    name: str
    active: bool
    reason: str
    actor: str


@event("risk-events")
class LimitChanged(Payload):
    """Limits of a scope were changed; an empty account or symbol stands for all of them."""

    account: str
    symbol: str
    before: dict[str, int]
    after: dict[str, int]
    actor: str


@event("risk-events")
class DailyLossReached(Payload):
    """A user lost as much as they may in a day; until 00:00 UTC they can only reduce positions."""

    account: str
    currency: str
    limit: int
    """Smallest units of the currency, as the next one."""
    loss: int


Told = MarginCallEnded | ForcedClose | DailyLossReached | MarginCall | PositionLimitBreached


def of_account(payload: Told, id: str | None = None) -> Envelope:
    """An event about one account; `id` tells it from all others. Without one it is told once only because it
    is written in the transaction that remembers it."""
    return Envelope.of(payload, key=payload.account, producer=_PRODUCER, id=id)


def switch_changed(payload: KillSwitchChanged, audit_id: int) -> Envelope:
    """The event of a kill switch."""
    key = f"{payload.scope}:{payload.name}"
    return Envelope.of(payload, key=key, producer=_PRODUCER, id=f"risk-audit:{audit_id}")


def limit_changed(payload: LimitChanged, audit_id: int) -> Envelope:
    """The event of changed limits."""
    key = payload.account or payload.symbol or "default"
    return Envelope.of(payload, key=key, producer=_PRODUCER, id=f"risk-audit:{audit_id}")


def alert(user: str, template: str, values: dict[str, str], id: str | None = None) -> Envelope:
    """A message to a user; `id` as in `of_account`."""
    payload = SendAlert(user=user, channel="email", template=template, values=values)
    return Envelope.of(payload, key=user, producer=_PRODUCER, id=f"alert:{id}" if id else None)
