"""Events of the wallet beside those of `app.events.accounts`. Amounts are smallest units of the asset."""

from typing import Literal

from pydantic import Field

from app.events.accounts import FundsDeposited, FundsHeld, FundsWithdrawn, SendConfirmation
from app.events.envelope import Envelope
from app.events.registry import Payload, event
from app.events.trading import TradeSettled

_PRODUCER = "wallet"


@event("wallet-events")
class FundsReleased(Payload):
    """What was left of a hold is free again."""

    account: str
    asset: str
    amount: int = Field(gt=0)
    transfer_id: str


@event("wallet-events")
class LoanTaken(Payload):
    """Funds were lent to a user."""

    account: str
    asset: str
    amount: int = Field(gt=0)
    transfer_id: str


@event("wallet-events")
class LoanRepaid(Payload):
    """A user paid a part of a debt back."""

    account: str
    asset: str
    amount: int = Field(gt=0)
    transfer_id: str


@event("wallet-events")
class WithdrawalChanged(Payload):
    """A withdrawal was requested or came to its next state."""

    withdrawal_id: str
    account: str
    asset: str
    amount: int = Field(gt=0)
    state: Literal["requested", "approved", "sent", "settled", "rejected"]


Funds = (
    type[LoanTaken]
    | type[LoanRepaid]
    | type[FundsDeposited]
    | type[FundsHeld]
    | type[FundsReleased]
    | type[FundsWithdrawn]
)


def funds(kind: Funds, account: str, asset: str, amount: int, transfer_id: str) -> Envelope:
    """An event about one transfer of a user; the same transfer has the same event id."""
    payload = kind(account=account, asset=asset, amount=amount, transfer_id=transfer_id)
    return Envelope.of(payload, key=account, producer=_PRODUCER, id=f"ledger:{transfer_id}")


def withdrawal_changed(payload: WithdrawalChanged) -> Envelope:
    """The event of a withdrawal's state; it reaches each state once."""
    id = f"withdrawal:{payload.withdrawal_id}:{payload.state}"
    return Envelope.of(payload, key=payload.account, producer=_PRODUCER, id=id)


def trade_settled(symbol: str, trade_id: str, transfer_id: str) -> Envelope:
    """The event of a trade that the ledger holds both sides of; named as in `TradeExecuted`."""
    name = f"{symbol}:{trade_id}"
    payload = TradeSettled(trade_id=name, symbol=symbol, transfer_id=transfer_id)
    return Envelope.of(payload, key=symbol, producer=_PRODUCER, id=f"settled:{name}")


def confirmation(user: str, template: str, values: dict[str, str], *, id: str) -> Envelope:
    """A message to a user about what the user asked for."""
    payload = SendConfirmation(user=user, channel="email", template=template, values=values)
    return Envelope.of(payload, key=user, producer=_PRODUCER, id=id)
