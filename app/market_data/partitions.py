"""Where candles lie: partitions by month on PostgreSQL, chunks with TimescaleDB, one table on SQLite.

The layout was decided by the migration that made the tables, and is read from the database's catalogue.
Whichever it is, history is dropped in whole pieces: a partition or chunk goes in a moment, while rows that
are deleted one by one leave their space to the vacuum.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import delete, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.market_data.models import CandleRow, HourRow

_LOCK = 4_730_001
"""Key of the advisory lock that keeps two makers of a partition apart."""

Table = type[CandleRow] | type[HourRow]


class Layout(StrEnum):
    """How the pieces of a table are kept."""

    PARTITIONS = "partitions"
    """PostgreSQL's own, one for each month."""
    CHUNKS = "chunks"
    """A hypertable of TimescaleDB."""
    PLAIN = "plain"


@dataclass(frozen=True, order=True)
class Month:
    """A month in UTC."""

    year: int
    month: int

    @classmethod
    def of(cls, at: int) -> "Month":
        """The month of a Unix time in seconds."""
        moment = datetime.fromtimestamp(at, UTC)
        return cls(moment.year, moment.month)

    @property
    def next(self) -> "Month":
        """The one after."""
        return Month(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def begin(self) -> int:
        """Unix time in seconds."""
        return int(datetime(self.year, self.month, 1, tzinfo=UTC).timestamp())

    @property
    def end(self) -> int:
        """Unix time in seconds; belongs to the next month."""
        return self.next.begin

    def partition(self, table: str) -> str:
        """Name of the table's partition."""
        return f"{table}_{self.year}_{self.month:02}"


async def layout(session: AsyncSession, table: Table) -> Layout:
    """How the database keeps a table."""
    if session.get_bind().dialect.name != "postgresql":
        return Layout.PLAIN
    kind = await session.scalar(
        text("SELECT relkind::text FROM pg_class WHERE oid = CAST(:name AS regclass)"),
        {"name": table.__tablename__},
    )
    extended = await session.scalar(text("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"))
    return layout_of(str(kind), bool(extended))


def layout_of(kind: str, extended: bool) -> Layout:
    """The layout by the table's kind in `pg_class` and whether TimescaleDB is in the database."""
    if kind == "p":
        return Layout.PARTITIONS
    return Layout.CHUNKS if extended else Layout.PLAIN


async def make(session: AsyncSession, table: Table, months: Iterable[Month]) -> None:
    """Make the partitions of some months that are missing."""
    name = table.__tablename__
    for month in sorted(months):
        await session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        await session.execute(
            text(
                f"CREATE TABLE IF NOT EXISTS {month.partition(name)} PARTITION OF {name} "
                f"FOR VALUES FROM ({month.begin}) TO ({month.end})"
            )
        )


async def months(session: AsyncSession, table: Table) -> list[Month]:
    """Months of which there are partitions, in order."""
    names = await session.scalars(
        text(
            "SELECT child.relname::text FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
            "WHERE inhparent = CAST(:name AS regclass)"
        ),
        {"name": table.__tablename__},
    )
    pattern = re.compile(rf"{table.__tablename__}_(\d{{4}})_(\d\d)")
    found = (pattern.fullmatch(name) for name in names)
    return sorted(Month(int(match[1]), int(match[2])) for match in found if match is not None)


async def drop(session: AsyncSession, table: Table, how: Layout, before: int) -> list[str]:
    """Drop the pieces that end at or before a Unix time in seconds; returns their names.

    Of a plain table the rows of whole months are deleted.
    """
    name = table.__tablename__
    if how is Layout.PARTITIONS:
        dropped = [month.partition(name) for month in await months(session, table) if month.end <= before]
        for partition in dropped:
            await session.execute(text(f"DROP TABLE {partition}"))
        return dropped
    if how is Layout.CHUNKS:
        return [str(chunk) for chunk in await session.scalars(text(drop_chunks(name, before)))]
    gone = await session.scalars(
        delete(table).where(table.start < Month.of(before).begin).returning(table.start)
    )
    return sorted({Month.of(start).partition(name) for start in gone})


def drop_chunks(table: str, before: int) -> str:
    """Statement of TimescaleDB that drops the chunks which lie wholly before a Unix time in seconds."""
    return f"SELECT drop_chunks('{table}', older_than => CAST({before} AS bigint))"
