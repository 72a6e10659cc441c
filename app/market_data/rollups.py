"""Candles of hours and days, kept beside those of minutes so that no question groups the whole history.

A longer candle is always made anew of all its parts, in the transaction that changed one of them: it cannot
differ from them, whoever wrote them.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlalchemy.sql.elements import ColumnElement

from app.kit.database import Database
from app.market_data.models import CandleRow, DayRow, HourRow

CandleTable = type[CandleRow] | type[HourRow] | type[DayRow]
COLUMNS = ("open", "high", "low", "close", "volume", "trades", "closed")
"""What a candle says beside its symbol and start."""
DAY = 86_400


@dataclass(frozen=True)
class Rollup:
    """Candles of `seconds` in `target`, made of those in `source`."""

    source: CandleTable
    target: CandleTable
    seconds: int


HOURS = Rollup(CandleRow, HourRow, 3600)
DAYS = Rollup(HourRow, DayRow, DAY)


def grouped(
    source: CandleTable, seconds: int, begin: int, end: int, *where: ColumnElement[bool]
) -> Select[tuple[Any, ...]]:
    """Candles of `seconds` made of the rows of `source` that begin within [begin, end) and hold `where`.

    Every one is as whole as its rows are. It is closed when its last part is: what closed that lies behind.
    """
    bucket = (source.start - source.start % seconds).label("bucket")
    groups = (
        select(
            source.symbol.label("symbol"),
            bucket,
            func.min(source.start).label("first"),
            func.max(source.start).label("last"),
            func.max(source.high).label("high"),
            func.min(source.low).label("low"),
            func.sum(source.volume).label("volume"),
            func.sum(source.trades).label("trades"),
        )
        .where(source.start >= begin, source.start < end, *where)
        .group_by(source.symbol, bucket)
        .subquery()
    )
    first, last = aliased(source), aliased(source)
    # Said of each of the three, so that no partition beyond the range is looked at.
    inside = [row.start.between(begin, end - 1) for row in (first, last)]
    return (
        select(
            groups.c.symbol,
            groups.c.bucket.label("start"),
            first.open,
            groups.c.high,
            groups.c.low,
            last.close,
            groups.c.volume,
            groups.c.trades,
            last.closed,
        )
        .join(first, and_(first.symbol == groups.c.symbol, first.start == groups.c.first))
        .join(last, and_(last.symbol == groups.c.symbol, last.start == groups.c.last))
        .where(*inside)
    )


async def follow(
    session: AsyncSession, database: Database, rollup: Rollup, changed: Iterable[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Make the candles anew that contain these parts, given by symbol and start; returns which they are."""
    touched = {(symbol, start - start % rollup.seconds) for symbol, start in changed}
    symbols: dict[int, list[str]] = defaultdict(list)
    for symbol, start in sorted(touched):
        symbols[start].append(symbol)
    for start, some in sorted(symbols.items()):
        end = start + rollup.seconds
        await _store(session, database, rollup, start, end, rollup.source.symbol.in_(some))
    return touched


async def catch_up(session: AsyncSession, database: Database, rollup: Rollup, start: int, end: int) -> None:
    """Make what is missing or lacks trades of the candles that begin within [start, end), a day at a time."""
    source = rollup.source
    at = start - start % DAY
    while True:
        chosen = select(func.min(source.start)).where(source.start >= at, source.start < end)
        found = await session.scalar(chosen)
        if found is None:
            return
        day = found - found % DAY
        at = day + DAY
        await _store(session, database, rollup, day, min(at, end), only_more=True)


async def _store(
    session: AsyncSession,
    database: Database,
    rollup: Rollup,
    begin: int,
    end: int,
    *where: ColumnElement[bool],
    only_more: bool = False,
) -> None:
    target = rollup.target
    columns = ("symbol", "start", *COLUMNS)
    made = grouped(rollup.source, rollup.seconds, begin, end, *where)
    insert = database.insert(target).from_select(columns, made)
    changes = {column: getattr(insert.excluded, column) for column in COLUMNS}
    more = target.trades < insert.excluded.trades if only_more else None
    await session.execute(
        insert.on_conflict_do_update(index_elements=("symbol", "start"), set_=changes, where=more)
    )
