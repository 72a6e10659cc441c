"""Users with funds, for the tests of the wallet."""

from collections.abc import Iterable, Sequence

from app.kit.database import Database
from app.wallet.ledger.accounts import PLATFORM, Account, AccountKind, available, platform
from app.wallet.ledger.service import Ledger
from app.wallet.ledger.transfers import Result, Transfer

CUSTODY = platform(AccountKind.CUSTODY, "USD")
UNIT = 10**8


class Clock:
    """Unix time in milliseconds, moved by the test."""

    def __init__(self, now: int = 1_790_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1000)


def user_accounts(users: Iterable[str], assets: Iterable[str] = ("USD",)) -> list[Account]:
    assets = list(assets)
    return [
        account
        for user in users
        for asset in assets
        for account in (available(user, asset), available(user, asset).held)
    ]


async def open_books(
    database: Database, ledger: Ledger, funds: dict[str, int], assets: Sequence[str] = ("USD",)
) -> None:
    """Open the accounts of users and the platform, and deposit `funds` of every asset."""
    ours = [platform(kind, asset) for asset in assets for kind in AccountKind if not kind.is_user]
    async with database.transaction() as session:
        await ledger.open(session, [*user_accounts(funds, assets), *ours])
    deposits = [
        Transfer.move(
            f"deposit:{user}:{asset}", platform(AccountKind.CUSTODY, asset), available(user, asset), amount
        )
        for user, amount in funds.items()
        for asset in assets
        if amount
    ]
    assert all(result.done for result in await apply(database, ledger, *deposits))


async def apply(database: Database, ledger: Ledger, *transfers: Transfer) -> list[Result]:
    async with database.transaction() as session:
        return await ledger.apply(session, transfers)


async def balance(database: Database, ledger: Ledger, account: Account) -> int:
    async with database.transaction(read_only=True) as session:
        return (await ledger.balances(session, account.owner)).get(account, 0)


async def total(database: Database, ledger: Ledger, owners: Iterable[str], asset: str = "USD") -> int:
    """Sum of the balances of some users and the platform."""
    found = 0
    async with database.transaction(read_only=True) as session:
        for owner in {*owners, PLATFORM}:
            found += sum(b for a, b in (await ledger.balances(session, owner)).items() if a.asset == asset)
    return found
