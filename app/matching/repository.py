"""SQL of the journal, its snapshots, the trading accounts and the dead-man switches."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass
from typing import Final

import orjson
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.bulk import document, insert_rows, table_of
from app.kit.database import Database
from app.kit.lease import LeaseLost
from app.matching.models import DeadManSwitchRow, JournalRow, ProgressRow, SnapshotRow, TradingAccountRow

PUBLISHED: Final = "published"
"""Name of the progress of publishing: every batch up to it is on the bus."""
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Batch:
    """A group of commands that was committed; see `JournalRow`."""

    batch: int
    token: int
    at: int
    commands: int
    records: bytes


class JournalRepository:
    """Batches, snapshots and progress."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, session: AsyncSession, batch: Batch) -> None:
        """Add the next batch.

        Raises:
            LeaseLost: there is a batch of that number: somebody else writes.
        """
        try:
            await session.execute(self._database.insert(JournalRow).values(**asdict(batch)))
        except IntegrityError as error:
            raise LeaseLost(f"batch {batch.batch} of the journal is written already") from error

    async def last(self, session: AsyncSession) -> int:
        """Number of the newest batch, with or without its commands still kept; 0 when there is none."""
        newest = await session.scalar(select(func.coalesce(func.max(JournalRow.batch), 0)))
        snapshot = await session.scalar(select(func.coalesce(func.max(SnapshotRow.batch), 0)))
        return max(int(newest or 0), int(snapshot or 0))

    async def read(self, after: int, until: int | None = None) -> AsyncIterator[Batch]:
        """The batches behind `after` up to `until` in order, page by page, each in its own transaction."""
        columns = (
            JournalRow.batch,
            JournalRow.token,
            JournalRow.at,
            JournalRow.commands,
            JournalRow.records,
        )
        while True:
            page = select(*columns).where(JournalRow.batch > after).order_by(JournalRow.batch).limit(_PAGE)
            if until is not None:
                page = page.where(JournalRow.batch <= until)
            async with self._database.transaction(read_only=True) as session:
                found = (await session.execute(page)).all()
            for row in found:
                yield Batch(*row)
            if len(found) < _PAGE:
                return
            after = found[-1].batch

    async def save_snapshot(
        self, session: AsyncSession, batch: int, at: int, sequences: dict[str, int], state: bytes
    ) -> None:
        """Keep the state after a batch; one that is there stays."""
        told = orjson.dumps(sequences).decode()
        values = {"batch": batch, "at": at, "sequences": told, "state": state}
        await session.execute(self._database.insert(SnapshotRow).values(values).on_conflict_do_nothing())

    async def snapshot(self, session: AsyncSession, until: int) -> tuple[int, bytes] | None:
        """Batch and state of the newest snapshot that is not behind `until`."""
        chosen = select(SnapshotRow.batch, SnapshotRow.state).where(SnapshotRow.batch <= until)
        found = (await session.execute(chosen.order_by(SnapshotRow.batch.desc()).limit(1))).one_or_none()
        return None if found is None else (found.batch, found.state)

    async def snapshot_before(self, session: AsyncSession, symbol: str, after: int) -> int | None:
        """Batch of the newest snapshot with a symbol not beyond sequence `after`, if any."""
        chosen = select(SnapshotRow.batch, SnapshotRow.sequences).order_by(SnapshotRow.batch.desc())
        for batch, sequences in await session.execute(chosen):
            if orjson.loads(sequences).get(symbol, 0) <= after:
                return int(batch)
        return None

    async def oldest(self, session: AsyncSession) -> int:
        """Number of the oldest batch that is kept; 0 when none is."""
        return int(await session.scalar(select(func.min(JournalRow.batch))) or 0)

    async def progress(self, session: AsyncSession, name: str) -> int:
        """How far something came; 0 at first."""
        return await session.scalar(select(ProgressRow.batch).where(ProgressRow.name == name)) or 0

    async def set_progress(self, session: AsyncSession, name: str, batch: int) -> None:
        """Remember how far something came; it never goes back."""
        statement = self._database.insert(ProgressRow).values(name=name, batch=batch)
        later = statement.on_conflict_do_update(
            index_elements=["name"], set_={"batch": batch}, where=ProgressRow.batch < batch
        )
        await session.execute(later)

    async def prune(self, session: AsyncSession, published: int, before: int) -> None:
        """Remove snapshots and batches of a time before `before` that no recovery needs any more.

        The newest snapshot up to `published` stays, and so do all batches behind the oldest snapshot kept.
        """
        needed = select(func.max(SnapshotRow.batch)).where(SnapshotRow.batch <= published)
        anchor = await session.scalar(needed)
        if anchor is None:
            return
        await session.execute(delete(SnapshotRow).where(SnapshotRow.batch < anchor, SnapshotRow.at < before))
        oldest = await session.scalar(select(func.min(SnapshotRow.batch)))
        await session.execute(
            delete(JournalRow).where(JournalRow.batch <= (oldest or 0), JournalRow.at < before)
        )


class AccountRepository:
    """Numbers of owners."""

    def __init__(self, database: Database) -> None:
        names = ("number", "owner")
        self._add = insert_rows(database, table_of(TradingAccountRow), names, order="number")

    async def add(self, session: AsyncSession, numbers: dict[str, int]) -> None:
        """Give owners their numbers; both have to be new."""
        await session.execute(
            self._add, document({"number": n, "owner": owner} for owner, n in numbers.items())
        )

    async def all(self, session: AsyncSession) -> dict[str, int]:
        """Every owner with the number."""
        found = await session.execute(select(TradingAccountRow.owner, TradingAccountRow.number))
        return {row.owner: row.number for row in found}


class SwitchRepository:
    """Dead-man switches."""

    def __init__(self, database: Database) -> None:
        self._database = database
        statement = insert_rows(database, table_of(DeadManSwitchRow), ("owner", "deadline_ms"), order="owner")
        self._set = statement.on_conflict_do_update(
            index_elements=["owner"], set_={"deadline_ms": statement.excluded.deadline_ms}
        )

    async def set(self, session: AsyncSession, deadlines: dict[str, int]) -> None:
        """Set deadlines (Unix milliseconds) of owners; 0 takes the switch away."""
        kept = {owner: at for owner, at in deadlines.items() if at}
        if kept:
            rows = ({"owner": owner, "deadline_ms": at} for owner, at in kept.items())
            await session.execute(self._set, document(rows))
        await self._remove(session, deadlines.keys() - kept.keys())

    async def all(self, session: AsyncSession) -> dict[str, int]:
        """Every owner's deadline."""
        found = await session.execute(select(DeadManSwitchRow.owner, DeadManSwitchRow.deadline_ms))
        return {row.owner: row.deadline_ms for row in found}

    async def _remove(self, session: AsyncSession, owners: Iterable[str]) -> None:
        gone = list(owners)
        if gone:
            await session.execute(delete(DeadManSwitchRow).where(DeadManSwitchRow.owner.in_(gone)))
