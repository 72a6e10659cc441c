"""What the endpoints of the wallet take and answer. Amounts are decimal strings, times are UTC."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.wallet.ledger.accounts import Account, AccountKind, check_owner
from app.wallet.ledger.assets import ASSETS, Asset
from app.wallet.ledger.repository import Entry
from app.wallet.ledger.transfers import Code
from app.wallet.models import WithdrawalRow
from app.wallet.withdrawals import State

Amount = Annotated[str, Field(description="Decimal, exact.", examples=["12.5"])]
Given = Annotated[Decimal, Field(gt=0, max_digits=40, description="Decimal, as a string.", examples=["12.5"])]
_WORD = r"^[\x21-\x7e]+$"


def _user(owner: str) -> str:
    check_owner(Account(owner, "USD", AccountKind.AVAILABLE))
    return owner


def _one_of(known: Mapping[str, object]) -> Callable[[str], str]:
    def check(code: str) -> str:
        if code not in known:
            raise ValueError(f"one of {', '.join(known)}")
        return code

    return check


Owner = Annotated[str, Field(min_length=1, max_length=80, pattern=_WORD), AfterValidator(_user)]
AssetCode = Annotated[str, AfterValidator(_one_of(ASSETS)), Field(examples=["USD"])]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AssetView(BaseModel):
    """An asset."""

    code: str
    scale: int = Field(description="Decimal places that amounts may have.")
    external_scale: int = Field(description="Decimal places of deposits and withdrawals.")

    @classmethod
    def of(cls, asset: Asset) -> "AssetView":
        """From the table of assets."""
        return cls(code=asset.code, scale=asset.scale, external_scale=asset.external_scale)


class BalanceView(BaseModel):
    """What a user has of an asset."""

    asset: str
    available: Amount
    held: Amount = Field(description="Set aside for orders and withdrawals.")


class EntryView(BaseModel):
    """One change of an account."""

    id: int
    time: datetime
    transfer_id: str
    kind: str
    reference: str
    amount: Amount = Field(description="Negative when it went out.")
    balance: Amount = Field(description="After the change.")

    @classmethod
    def of(cls, entry: Entry, asset: Asset) -> "EntryView":
        """From a posting."""
        return cls(
            id=entry.posting_id,
            time=_time(entry.created_at),
            transfer_id=entry.transfer_id,
            kind=entry.kind,
            reference=entry.reference,
            amount=asset.text(entry.amount),
            balance=asset.text(entry.balance),
        )


class EntryPage(BaseModel):
    """Changes of an account, the newest first."""

    entries: list[EntryView]
    next: int | None = Field(description="Give it as `before` to get the page after; null at the end.")


class DepositRequest(_Request):
    """Funds of a user that arrived."""

    reference: str = Field(
        min_length=1,
        max_length=90,
        pattern=r"^[\x20-\x7e]+$",
        description="What bank or network calls it; unique.",
    )
    owner: Owner
    asset: AssetCode
    amount: Given


class TransferView(BaseModel):
    """What the ledger answered."""

    transfer_id: str
    code: Code


class WithdrawalBody(_Request):
    """What a user wants to withdraw."""

    id: UUID = Field(description="Made by the client; the same request again gets the same withdrawal.")
    asset: AssetCode
    amount: Given
    destination: str = Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$")


class LoanBody(_Request):
    """A loan to take, or a part of one to pay back."""

    id: UUID = Field(description="Made by the client; the same request again changes nothing.")
    asset: AssetCode
    amount: Given


class LoanView(BaseModel):
    """What a user owes."""

    asset: str
    amount: Amount = Field(description="With the interest of the full hours until now.")
    rate_bps: int = Field(description="Interest in basis points a year.")


class StepBody(_Request):
    """What an operator says to a step."""

    note: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        pattern=r"^\P{C}+$",
        description="Reason, or what bank or network calls it.",
    )


class WithdrawalView(BaseModel):
    """A withdrawal."""

    id: str
    owner: str
    asset: str
    amount: Amount
    destination: str
    second_factor: bool
    state: State
    approved_by: str | None
    note: str | None
    created_at: datetime
    changed_at: datetime

    @classmethod
    def of(cls, row: WithdrawalRow) -> "WithdrawalView":
        """From its row."""
        return cls(
            id=row.id,
            owner=row.owner,
            asset=row.asset,
            amount=ASSETS[row.asset].text(row.amount),
            destination=row.destination,
            second_factor=row.second_factor,
            state=State(row.state),
            approved_by=row.approved_by,
            note=row.note,
            created_at=_time(row.created_at),
            changed_at=_time(row.changed_at),
        )


class WithdrawalPage(BaseModel):
    """Withdrawals, the newest first."""

    withdrawals: list[WithdrawalView]
    next: str | None = Field(description="Give it as `before` to get the page after; null at the end.")


class DifferenceView(BaseModel):
    """Something that does not agree."""

    check: str
    subject: str
    stored: int
    computed: int


class ReportView(BaseModel):
    """What a reconciliation found."""

    clean: bool
    imbalances: dict[str, int]
    differences: list[DifferenceView]


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
