"""The ledger: batches of transfers, each in one transaction of the caller."""

import time
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import Counter, Histogram
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database import Database
from app.kit.errors import ConfigurationError
from app.wallet.ledger.accounts import Account, check_owner
from app.wallet.ledger.assets import ASSETS
from app.wallet.ledger.book import Book, Hold
from app.wallet.ledger.repository import Entry, LedgerRepository
from app.wallet.ledger.transfers import Code, Kind, Result, Transfer, chains

_transfers = Counter("ledger_transfers_total", "Transfers answered", ["kind", "code"])
_batch = Histogram("ledger_batch_size", "Transfers in a batch", buckets=(1, 3, 10, 30, 100, 300, 1000, 3000))


_MOST_OPENED = 200_000
"""Accounts that one process remembers, some 50 MB."""


def system_clock() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Ledger:
    """Applies transfers. It never commits: what the caller rolls back has not happened.

    One transaction makes at most one call of `apply` or `expire`: only within one batch are rows locked in an
    order that cannot deadlock.
    """

    def __init__(self, database: Database, clock: Callable[[], int] = system_clock) -> None:
        self._repository = LedgerRepository(database)
        self._clock = clock
        self._opened: set[Account] = set()

    async def prepare(self, session: AsyncSession) -> None:
        """Check that stored amounts mean what this code takes them for.

        Raises:
            ConfigurationError: an asset was written with another scale.
        """
        wanted = {asset.code: asset.scale for asset in ASSETS.values()}
        stored = await self._repository.pin_scales(session, wanted)
        wrong = [code for code, scale in wanted.items() if stored[code] != scale]
        if wrong:
            raise ConfigurationError(f"amounts of {', '.join(wrong)} are stored with another scale")

    async def open(self, session: AsyncSession, accounts: Iterable[Account]) -> None:
        """Make accounts; those that exist stay as they are. Before `apply` in a transaction.

        Raises:
            ValueError: an asset is unknown, or kind and owner do not belong together.
        """
        wanted = set(accounts) - self._opened
        if not wanted:
            return
        for account in wanted:
            check_owner(account)
            if account.asset not in ASSETS:
                raise ValueError(f"there is no asset {account.asset}")
        await self._repository.open_accounts(session, wanted)
        event.listen(session.sync_session, "after_commit", lambda _: self._note(wanted), once=True)

    def _note(self, opened: set[Account]) -> None:
        """Accounts are never closed: those that were committed need not be looked for again."""
        if len(self._opened) > _MOST_OPENED:
            self._opened.clear()
        self._opened |= opened

    async def apply(self, session: AsyncSession, transfers: Sequence[Transfer]) -> list[Result]:
        """Do transfers in their order, chains all or none; one result for each.

        Raises:
            ValueError: the batch is too large or its chains are broken.
            Contended: another transaction used one of the new ids at this moment; roll back and try again.
        """
        batch = list(chains(transfers))
        if not batch:
            return []
        named = {transfer.hold_id for transfer in transfers if transfer.hold_id}
        seen = await self._repository.named_holds(session, named) if named else {}
        locked = await self._repository.lock(session, _accounts(transfers, seen.values()))
        # Only now nobody else can change them; their accounts are the same as before.
        holds = await self._repository.current_holds(session, named, seen) if named else {}
        known = await self._repository.answered(session, {transfer.id for transfer in transfers})
        book = Book(
            {account: balance for account, (_, balance) in locked.items()}, holds, known, self._clock()
        )
        results = [result for chain in batch for result in book.apply(chain)]
        await self._repository.save(session, book, {account: id for account, (id, _) in locked.items()})
        _batch.observe(len(transfers))
        for transfer, result in zip(transfers, results, strict=True):
            _transfers.labels(transfer.kind.value, result.code.value).inc()
        return results

    async def expire(self, session: AsyncSession, limit: int = 500) -> list[Hold]:
        """Give the oldest holds whose time is over back; returns those that this call ended."""
        due = await self._repository.due_holds(session, self._clock(), limit)
        results = await self.apply(
            session, [Transfer(id=f"expire:{id}", kind=Kind.EXPIRE, hold_id=id) for id in due]
        )
        ended = [id for id, result in zip(due, results, strict=True) if result.code is Code.OK]
        holds = await self._repository.named_holds(session, ended) if ended else {}
        return [holds[id] for id in ended]

    async def known(self, session: AsyncSession, ids: Iterable[str]) -> set[str]:
        """Those of the transfers that were done."""
        found = await self._repository.answered(session, ids)
        return {id for id, answer in found.items() if answer.code is Code.OK}

    async def holds(self, session: AsyncSession, ids: Iterable[str]) -> dict[str, Hold]:
        """Holds by id, as they are now."""
        return await self._repository.named_holds(session, ids)

    async def balances(self, session: AsyncSession, owner: str) -> dict[Account, int]:
        """Every account of an owner with its signed balance."""
        return await self._repository.balances(session, owner)

    async def entries(
        self, session: AsyncSession, account: Account, before: int | None = None, limit: int = 100
    ) -> list[Entry]:
        """The newest postings of an account before the posting `before`, the newest first."""
        return await self._repository.entries(session, account, before, limit)


def _accounts(transfers: Iterable[Transfer], holds: Iterable[Hold]) -> set[Account]:
    """Every account that a batch may change or ask for."""
    found: set[Account | None] = set()
    for transfer in transfers:
        found |= {transfer.source, transfer.target}
        if transfer.kind is Kind.HOLD and transfer.source is not None:
            found.add(transfer.source.held)
    for hold in holds:
        found |= {hold.source, hold.source.held, hold.target}
    return {account for account in found if account is not None}
