"""All SQL of market data. Nothing here commits."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from sqlalchemy import and_, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.events.prices import PriceTick
from app.instruments import Instrument
from app.kit.database import Database
from app.market_data.candles import Candle
from app.market_data.models import CandleRow, InstrumentRow, ProgressRow

_PARTITION_LOCK = 4_730_001
_CANDLE = ("open", "high", "low", "close", "volume", "trades", "closed")


class MarketRepository:
    """Instruments, candles and how far the candles have come."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._months: set[tuple[int, int]] = set()

    async def save_instruments(self, session: AsyncSession, instruments: Iterable[Instrument]) -> None:
        """Insert or update."""
        columns = ("name", "asset_class", "currency", "tick_size", "lot_size", "calendar")
        rows = [{"symbol": i.symbol, **{c: str(getattr(i, c)) for c in columns}} for i in instruments]
        await self._upsert(session, InstrumentRow, rows, ("symbol",), columns)

    async def instruments(self, session: AsyncSession) -> Sequence[InstrumentRow]:
        """All, by symbol."""
        return (await session.scalars(select(InstrumentRow).order_by(InstrumentRow.symbol))).all()

    async def progress(self, session: AsyncSession, ticks: Iterable[PriceTick]) -> dict[str, dict[str, int]]:
        """Symbol → epoch → last number in the candles, for these ticks; locked to the end of the transaction.

        Rows that are missing are made first: only what exists can be locked against another replica.
        """
        places = sorted({(tick.symbol, tick.epoch) for tick in ticks})
        rows = [{"symbol": symbol, "epoch": epoch, "seq": 0} for symbol, epoch in places]
        await session.execute(self._database.insert(ProgressRow).on_conflict_do_nothing(), rows)
        wanted = select(ProgressRow).where(tuple_(ProgressRow.symbol, ProgressRow.epoch).in_(places))
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for row in await session.scalars(
            wanted.order_by(ProgressRow.symbol, ProgressRow.epoch).with_for_update()
        ):
            found[row.symbol][row.epoch] = row.seq
        return found

    async def save_progress(self, session: AsyncSession, ticks: Iterable[PriceTick]) -> None:
        """Remember that these ticks, in order, are in the candles."""
        last = {(tick.symbol, tick.epoch): tick.seq for tick in ticks}
        rows = [
            {"symbol": symbol, "epoch": epoch, "seq": seq} for (symbol, epoch), seq in sorted(last.items())
        ]
        await self._upsert(session, ProgressRow, rows, ("symbol", "epoch"), ("seq",))

    async def open_candles(self, session: AsyncSession, symbols: Iterable[str]) -> dict[str, Candle]:
        """The newest candle of each symbol. It is open: a candle is closed by the one after it."""
        newest = (
            select(CandleRow.symbol, func.max(CandleRow.start).label("start"))
            .where(CandleRow.symbol.in_(list(symbols)))
            .group_by(CandleRow.symbol)
            .subquery()
        )
        same = and_(CandleRow.symbol == newest.c.symbol, CandleRow.start == newest.c.start)
        rows = await session.scalars(select(CandleRow).join(newest, same))
        return {
            row.symbol: Candle(row.symbol, row.start, *(getattr(row, column) for column in _CANDLE))
            for row in rows
        }

    async def save_candles(self, session: AsyncSession, candles: Sequence[Candle]) -> None:
        """Insert or update; makes the partitions that are missing."""
        if not candles:
            return
        await self._ensure_partitions(session, {candle.start for candle in candles})
        await self._upsert(
            session, CandleRow, [asdict(candle) for candle in candles], ("symbol", "start"), _CANDLE
        )

    async def candles(
        self, session: AsyncSession, symbol: str, seconds: int, start: int | None, end: int | None, limit: int
    ) -> list[Candle]:
        """The newest `limit` candles of `seconds` that begin within [start, end), oldest first; all whole."""
        bucket = (CandleRow.start - CandleRow.start % seconds).label("bucket")
        chosen = select(
            bucket,
            func.min(CandleRow.start).label("first"),
            func.max(CandleRow.start).label("last"),
            func.max(CandleRow.high).label("high"),
            func.min(CandleRow.low).label("low"),
            func.sum(CandleRow.volume).label("volume"),
            func.sum(CandleRow.trades).label("trades"),
        ).where(CandleRow.symbol == symbol)
        if start is not None:
            chosen = chosen.where(CandleRow.start >= _boundary(start, seconds))
        if end is not None:
            chosen = chosen.where(CandleRow.start < _boundary(end, seconds))
        grouped = chosen.group_by(bucket).order_by(bucket.desc()).limit(limit).subquery()
        first, last = aliased(CandleRow), aliased(CandleRow)
        rows = await session.execute(
            select(grouped, first.open, last.close, last.closed)
            .join(first, and_(first.symbol == symbol, first.start == grouped.c.first))
            .join(last, and_(last.symbol == symbol, last.start == grouped.c.last))
            .order_by(grouped.c.bucket)
        )
        return [
            Candle(
                symbol,
                row.bucket,
                row.open,
                row.high,
                row.low,
                row.close,
                int(row.volume),
                int(row.trades),
                closed=row.closed,  # the minute that closed it lies behind the last one of these
            )
            for row in rows
        ]

    async def _upsert(
        self,
        session: AsyncSession,
        table: type[CandleRow] | type[ProgressRow] | type[InstrumentRow],
        rows: Sequence[Mapping[str, object]],
        key: tuple[str, ...],
        columns: tuple[str, ...],
    ) -> None:
        if not rows:
            return
        insert = self._database.insert(table)
        changes = {column: getattr(insert.excluded, column) for column in columns}
        await session.execute(insert.on_conflict_do_update(index_elements=key, set_=changes), list(rows))

    async def _ensure_partitions(self, session: AsyncSession, starts: Iterable[int]) -> None:
        if not self._database.is_postgresql:
            return
        months = {(at.year, at.month) for at in (datetime.fromtimestamp(start, UTC) for start in starts)}
        for year, month in sorted(months - self._months):
            begin = datetime(year, month, 1, tzinfo=UTC)
            end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
            await session.execute(text(f"SELECT pg_advisory_xact_lock({_PARTITION_LOCK})"))
            await session.execute(
                text(
                    f"CREATE TABLE IF NOT EXISTS candles_{year}_{month:02} PARTITION OF candles "
                    f"FOR VALUES FROM ({int(begin.timestamp())}) TO ({int(end.timestamp())})"
                )
            )
        self._months |= months


def _boundary(at: int, seconds: int) -> int:
    """The first start of a candle that is not before `at`."""
    return -(-at // seconds) * seconds
