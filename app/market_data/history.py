"""Reading candles: pages in both directions, gaps filled, and the candle that runs. Nothing here commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.errors import Unavailable
from app.market_data.candles import MINUTE, Candle, fill_gaps
from app.market_data.models import CandleRow, DayRow, HourRow, PlaceRow
from app.market_data.rollups import COLUMNS, DAY, CandleTable, grouped

_HOUR: Final = 3600


@dataclass(frozen=True)
class Page:
    """Candles, oldest first, and whether there are others on either side."""

    candles: list[Candle]
    before: bool
    after: bool


@dataclass(frozen=True)
class Place:
    """The tick up to which candles count."""

    epoch: str
    seq: int


@dataclass(frozen=True)
class Query:
    """Which candles are asked for: at most `limit` of `seconds` that begin within [start, end).

    They are the newest of them, or with `forward` the oldest. With `fill`, intervals without a trade have a
    candle, too, from the first candle of all to the newest: behind that nobody can say yet.
    """

    symbol: str
    seconds: int
    start: int | None
    end: int | None
    limit: int
    forward: bool = False
    fill: bool = False


async def one_moment(session: AsyncSession) -> None:
    """Let every question of the session's transaction see the same moment; call it first.

    SQLite does so by itself.
    """
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))


async def place(session: AsyncSession, symbol: str) -> Place | None:
    """The last tick that is in a symbol's candles; None while there is none."""
    found = await session.get(PlaceRow, symbol)
    return None if found is None else Place(found.epoch, found.seq)


async def running(session: AsyncSession, symbol: str, intervals: Sequence[int]) -> dict[int, Candle]:
    """Interval in seconds → the candle of it that the newest minute is in; empty without any candle.

    Raises:
        Unavailable: a version of the app without roll-ups stored the newest minute.
    """
    newest = await _edge(session, CandleRow, symbol, newest=True)
    if newest is None:
        return {}
    found = {}
    for seconds in intervals:
        candles = await _candles(session, Query(symbol, seconds, newest - newest % seconds, None, 1))
        if not candles:
            raise Unavailable("market-data", f"the newest candles of {symbol} are not rolled up yet")
        found[seconds] = candles[0]
    return found


async def page(session: AsyncSession, query: Query) -> Page:
    """The candles of a query."""
    return await (_filled(session, query) if query.fill else _stored(session, query))


async def _stored(session: AsyncSession, query: Query) -> Page:
    more = Query(query.symbol, query.seconds, query.start, query.end, query.limit + 1, query.forward)
    found = await _candles(session, more)
    further = len(found) > query.limit
    if query.forward:
        candles = found[: query.limit]
        edge = candles[0].start if candles else _boundary(query.start, query.seconds)
        return Page(candles, await _any(session, query, before=edge), further)
    candles = found[-query.limit :]
    edge = candles[-1].start + query.seconds if candles else _boundary(query.end, query.seconds)
    return Page(candles, further, await _any(session, query, after=edge))


async def _filled(session: AsyncSession, query: Query) -> Page:
    seconds, table = query.seconds, _table(query.seconds)
    first = await _edge(session, table, query.symbol, newest=False)
    last = await _edge(session, table, query.symbol, newest=True)
    if first is None or last is None:
        return Page([], before=False, after=False)
    oldest, newest = first - first % seconds, last - last % seconds + seconds
    begin, end = oldest, newest
    if query.start is not None:
        begin = max(begin, _up(query.start, seconds))
    if query.end is not None:
        end = min(end, _up(query.end, seconds))
    span = query.limit * seconds
    if query.forward:
        low, high = begin, min(end, begin + span)
        more_before, more_after = low > oldest, high < end
    else:
        low, high = max(begin, end - span), end
        more_before, more_after = low > begin, high < newest
    if low >= high:
        return Page([], before=oldest < high, after=low < newest)
    found = await _candles(session, Query(query.symbol, seconds, low, high, query.limit))
    before = await _candles(session, Query(query.symbol, seconds, None, low, 1))
    return Page(fill_gaps(found, before[0] if before else None, low, high, seconds), more_before, more_after)


async def _candles(session: AsyncSession, query: Query) -> list[Candle]:
    """Candles with trades, oldest first; all whole.

    No more rows are read than the answer can hold: `limit` candles have at most so many parts, and a candle
    that is cut by that lies beyond the last one of the answer.
    """
    table, seconds = _table(query.seconds), query.seconds
    columns = [getattr(table, column) for column in ("symbol", "start", *COLUMNS)]
    rows = select(*columns).where(table.symbol == query.symbol)
    if query.start is not None:
        rows = rows.where(table.start >= _up(query.start, seconds))
    if query.end is not None:
        rows = rows.where(table.start < _up(query.end, seconds))
    parts = query.limit * (seconds // _length(table))
    order = table.start.asc() if query.forward else table.start.desc()
    rows = rows.order_by(order).limit(parts)
    if seconds != _length(table):
        chosen = rows.with_only_columns(table.start).subquery()
        edges = select(func.min(chosen.c.start), func.max(chosen.c.start))
        low, high = (await session.execute(edges)).one()
        if low is None:
            return []
        rows = grouped(table, seconds, low, high + 1, table.symbol == query.symbol)
    candles = sorted((_candle(row) for row in await session.execute(rows)), key=lambda each: each.start)
    return candles[: query.limit] if query.forward else candles[-query.limit :]


def _candle(row: Row[Any]) -> Candle:
    """From the columns of a candle, in their order; sums come as decimals."""
    symbol, start, open_, high, low, close, volume, trades, closed = tuple(row)
    return Candle(symbol, start, open_, high, low, close, int(volume), int(trades), closed)


async def _any(
    session: AsyncSession, query: Query, *, before: int | None = None, after: int | None = None
) -> bool:
    """Whether there is a candle of the symbol before, or at and after, a moment; of None it is not asked."""
    table = _table(query.seconds)
    if before is not None:
        chosen = select(table.start).where(table.start < before)
    elif after is not None:
        chosen = select(table.start).where(table.start >= after)
    else:
        return False
    return await session.scalar(chosen.where(table.symbol == query.symbol).limit(1)) is not None


async def _edge(session: AsyncSession, table: CandleTable, symbol: str, *, newest: bool) -> int | None:
    order = table.start.desc() if newest else table.start.asc()
    return await session.scalar(select(table.start).where(table.symbol == symbol).order_by(order).limit(1))


def _table(seconds: int) -> CandleTable:
    """Where candles of a length are made from."""
    if seconds < _HOUR:
        return CandleRow
    return HourRow if seconds < DAY else DayRow


def _length(table: CandleTable) -> int:
    return {CandleRow: MINUTE, HourRow: _HOUR, DayRow: DAY}[table]


def _up(at: int, seconds: int) -> int:
    """The first start of a candle that is not before `at`."""
    return -(-at // seconds) * seconds


def _boundary(at: int | None, seconds: int) -> int | None:
    return None if at is None else _up(at, seconds)
