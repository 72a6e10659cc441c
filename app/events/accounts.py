"""Wallet, notification and user events. Amounts are minor units of the asset."""

from typing import Literal

from pydantic import Field

from app.events.registry import Payload, event


class _FundsEvent(Payload):
    account: str
    asset: str
    amount: int = Field(gt=0)
    transfer_id: str


@event("wallet-events")
class FundsDeposited(_FundsEvent):
    """Money or coins came in."""


@event("wallet-events")
class FundsWithdrawn(_FundsEvent):
    """Money or coins went out."""


@event("wallet-events")
class FundsHeld(_FundsEvent):
    """An amount is set aside for an order or a withdrawal."""


@event("notification-events")
class SendAlert(Payload):
    """Tell a user that something happened."""

    user: str
    channel: Literal["email", "sms", "push"]
    template: str
    values: dict[str, str]


@event("notification-events")
class SendConfirmation(Payload):
    """Confirm to a user what the user asked for."""

    user: str
    channel: Literal["email", "sms", "push"]
    template: str
    values: dict[str, str]


@event("user-events")
class UserCreated(Payload):
    """A user registered."""

    user: str


@event("user-events")
class KYCApproved(Payload):
    """A user's identity is verified to a level."""

    user: str
    level: int = Field(ge=1)
