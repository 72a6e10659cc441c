"""Accounts: who owns how much of which asset, and on which side of the books.

Balances are signed, credits positive: what the platform owes (users' funds) and earned is positive, what it
has (coins and money in custody, claims on users) and spent is negative. So the balances of an asset always
add up to zero.
"""

from enum import StrEnum
from typing import NamedTuple

from app.wallet.ledger.assets import LARGEST

PLATFORM = "platform"
"""Owner of the platform's own accounts; an owner `platform/<part>` keeps one part of them apart."""


class AccountClass(StrEnum):
    """Side of the books."""

    ASSET = "asset"
    LIABILITY = "liability"
    REVENUE = "revenue"
    EXPENSE = "expense"


class AccountKind(StrEnum):
    """What an account is for."""

    AVAILABLE = "available"
    """A user's funds that are free to use."""
    HELD = "held"
    """A user's funds set aside by holds; exactly the sum of what is left of them."""
    CUSTODY = "custody"
    """What the platform has at banks and in cold and hot wallets."""
    FEES = "fees"
    """What users paid for trading."""
    PENDING_WITHDRAWAL = "pending_withdrawal"
    """Sent, but not yet confirmed by bank or network."""
    LOAN = "loan"
    """What a user owes, below zero."""
    INTEREST = "interest"
    """What users paid for loans."""
    SUSPENSE = "suspense"
    """Differences until they are explained; either side of zero."""
    LOSSES = "losses"
    """What the platform paid for mistakes."""

    @property
    def account_class(self) -> AccountClass:
        """Side of the books."""
        return _CLASSES.get(self, AccountClass.LIABILITY)

    @property
    def is_user(self) -> bool:
        """Whether users own accounts of this kind."""
        return self in USER_KINDS


USER_KINDS = (AccountKind.AVAILABLE, AccountKind.HELD, AccountKind.LOAN)
_CLASSES = {
    AccountKind.CUSTODY: AccountClass.ASSET,
    AccountKind.LOAN: AccountClass.ASSET,
    AccountKind.FEES: AccountClass.REVENUE,
    AccountKind.INTEREST: AccountClass.REVENUE,
    AccountKind.LOSSES: AccountClass.EXPENSE,
}
BOUNDS: dict[AccountKind, tuple[int, int]] = {
    kind: (
        (-LARGEST, LARGEST)
        if kind is AccountKind.SUSPENSE
        else (-LARGEST, 0)
        if kind.account_class in (AccountClass.ASSET, AccountClass.EXPENSE)
        else (0, LARGEST)
    )
    for kind in AccountKind
}
"""Smallest and largest balance; no account is overdrawn."""


class Account(NamedTuple):
    """Names one account."""

    owner: str
    asset: str
    kind: AccountKind

    @property
    def held(self) -> "Account":
        """The account that holds of this one are kept in."""
        return Account(self.owner, self.asset, AccountKind.HELD)


def available(owner: str, asset: str) -> Account:
    """A user's free funds."""
    return Account(owner, asset, AccountKind.AVAILABLE)


def loan(owner: str, asset: str) -> Account:
    """What a user owes."""
    return Account(owner, asset, AccountKind.LOAN)


def platform(kind: AccountKind, asset: str, part: str = "") -> Account:
    """An account of the platform; `part` keeps, say, the fees of each market apart: no shared row."""
    return Account(f"{PLATFORM}/{part}" if part else PLATFORM, asset, kind)


def check_owner(account: Account) -> None:
    """Raise ValueError when kind and owner do not belong together or the owner's name does not fit."""
    ours = account.owner == PLATFORM or account.owner.startswith(f"{PLATFORM}/")
    if not 1 <= len(account.owner) <= 80 or account.kind.is_user == ours:
        raise ValueError(f"{account.owner!r} cannot own an account of kind {account.kind}")
