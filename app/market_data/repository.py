"""What is written of market data, and the instruments. Nothing here commits; for reading see `history`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.prices import PriceTick
from app.instruments import Instrument
from app.kit.database import Database
from app.market_data.candles import Candle
from app.market_data.models import CandleRow, HourRow, InstrumentRow, PlaceRow, ProgressRow
from app.market_data.partitions import Layout, Month, Table, layout, make, months
from app.market_data.rollups import COLUMNS, DAYS, HOURS, follow


class MarketRepository:
    """Instruments, candles and how far the candles have come."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._layouts: dict[str, Layout] = {}
        self._months: defaultdict[str, set[Month]] = defaultdict(set)

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
        """The newest candle of each symbol that has progress. It is open: the one after it closes it."""
        # Symbol by symbol from the end of the index: a GROUP BY would read the whole history.
        named = select(ProgressRow.symbol).where(ProgressRow.symbol.in_(list(symbols))).distinct().subquery()
        newest = select(func.max(CandleRow.start)).where(CandleRow.symbol == named.c.symbol)
        found = await session.execute(select(named.c.symbol, newest.scalar_subquery()))
        places = [tuple(place) for place in found]
        rows = await session.scalars(
            select(CandleRow).where(tuple_(CandleRow.symbol, CandleRow.start).in_(places))
        )
        return {
            row.symbol: Candle(row.symbol, row.start, *(getattr(row, column) for column in COLUMNS))
            for row in rows
        }

    async def save_candles(self, session: AsyncSession, candles: Sequence[Candle]) -> None:
        """Insert or update, with the hours and days they are part of; makes missing partitions."""
        if not candles:
            return
        starts = {candle.start for candle in candles}
        await self._partitions(session, CandleRow, starts)
        await self._partitions(session, HourRow, starts)
        rows = [asdict(candle) for candle in candles]
        await self._upsert(session, CandleRow, rows, ("symbol", "start"), COLUMNS)
        changed: Iterable[tuple[str, int]] = [(candle.symbol, candle.start) for candle in candles]
        for rollup in (HOURS, DAYS):
            changed = await follow(session, self._database, rollup, changed)

    async def save_places(self, session: AsyncSession, ticks: Iterable[PriceTick]) -> None:
        """Remember the last of these ticks, in order, of each symbol."""
        last = {tick.symbol: tick for tick in ticks}
        rows = [
            {"symbol": symbol, "epoch": tick.epoch, "seq": tick.seq} for symbol, tick in sorted(last.items())
        ]
        await self._upsert(session, PlaceRow, rows, ("symbol",), ("epoch", "seq"))

    async def _upsert(
        self,
        session: AsyncSession,
        table: type[CandleRow | ProgressRow | PlaceRow | InstrumentRow],
        rows: Sequence[Mapping[str, object]],
        key: tuple[str, ...],
        columns: tuple[str, ...],
    ) -> None:
        if not rows:
            return
        insert = self._database.insert(table)
        changes = {column: getattr(insert.excluded, column) for column in columns}
        await session.execute(insert.on_conflict_do_update(index_elements=key, set_=changes), list(rows))

    async def _partitions(self, session: AsyncSession, table: Table, starts: Iterable[int]) -> None:
        """Make the partitions that some candles need, where they are partitions."""
        name = table.__tablename__
        if name not in self._layouts:
            self._layouts[name] = await layout(session, table)
        if self._layouts[name] is Layout.PARTITIONS:
            needed = {Month.of(start) for start in starts}
            if not needed <= self._months[name]:
                # Those that are made now are not among them: the transaction may yet be rolled back.
                self._months[name] = set(await months(session, table))
                await make(session, table, needed - self._months[name])
