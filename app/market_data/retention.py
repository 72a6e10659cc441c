"""How long candles are kept, and where the next ones will lie.

A month of minutes goes when it is older than the settings say, and only after its hours are complete: what
they lack is made up in the same transaction. The same holds for hours and days.
"""

import asyncio
import time
from collections.abc import Callable

from prometheus_client import Counter, Gauge
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import logs
from app.kit.database import Database
from app.kit.lease import Lease, LeaseLost
from app.market_data.models import CandleRow, HourRow
from app.market_data.partitions import Layout, Month, Table, drop, layout, make, months
from app.market_data.rollups import DAY, DAYS, HOURS, Rollup, catch_up
from app.market_data.settings import MarketDataSettings

LEASE = "candle-retention"
LEASE_SECONDS = 300.0
"""Longer than any round takes; a replica that dies in one delays the next."""
_ROUND_SECONDS = 3600.0
_AHEAD = 2
"""Months for which there are partitions before anything falls into them."""
_RECENT = 2 * DAY
"""Seconds of history that each round makes whole: during an update, replicas of the version before store
minutes without what they are rolled up to."""
_LOCK_TIMEOUT = "3s"
"""Time that the dropping of a partition may keep readers waiting behind it."""
_LOCK_NOT_AVAILABLE = "55P03"
_log = logs.get(__name__)
_dropped = Counter("candle_pieces_dropped_total", "Partitions or chunks of candles dropped", ["table"])
_done = Gauge("candle_retention_done_seconds", "Unix time of the last round of the retention here")


class Retention:
    """Makes and drops the pieces of the tables of candles; one replica at a time does it, under `lease`.

    `clock` is Unix time in seconds.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        settings: MarketDataSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock
        self._kept: tuple[tuple[Rollup, Table, int], ...] = (
            (HOURS, CandleRow, settings.minute_days),
            (DAYS, HourRow, settings.hour_days),
        )

    async def run(self) -> None:
        """One round each hour, until cancelled; raises Unavailable when the database is gone."""
        while True:
            token = await self._lease.acquire()
            if token is not None:
                try:
                    await self.round(token)
                finally:
                    await self._lease.release(token)
            await asyncio.sleep(_ROUND_SECONDS)

    async def round(self, token: int) -> dict[str, list[str]]:
        """Do what is due; returns the names of what was dropped by table.

        Raises:
            Unavailable: the database is gone; what was done stays done.
        """
        dropped = {}
        for rollup, table, days in self._kept:
            name = table.__tablename__
            try:
                async with self._database.transaction() as session:
                    await self._lease.check(session, token)
                    how = await layout(session, table)
                    if how is Layout.PARTITIONS:
                        await self._make_ahead(session)
                    now = int(self._clock())
                    await catch_up(session, self._database, rollup, now - _RECENT, now)
                    dropped[name] = await self._drop(session, rollup, table, how, days)
            except LeaseLost:
                return dropped
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                    raise
                _log.warning("somebody reads for long; old candles go in the next round", table=name)
                continue
            _dropped.labels(name).inc(len(dropped[name]))
            if dropped[name]:
                _log.info("old candles dropped", table=name, pieces=dropped[name])
        _done.set(self._clock())
        return dropped

    async def _make_ahead(self, session: AsyncSession) -> None:
        """Partitions of the months to come, and hours for every month that has minutes."""
        ahead = [Month.of(int(self._clock()))]
        for _ in range(_AHEAD):
            ahead.append(ahead[-1].next)
        await make(session, CandleRow, ahead)
        needed = {*ahead, *await months(session, CandleRow)}
        await make(session, HourRow, needed - set(await months(session, HourRow)))

    async def _drop(
        self, session: AsyncSession, rollup: Rollup, table: Table, how: Layout, days: int
    ) -> list[str]:
        now = int(self._clock())
        before = now - now % DAY - days * DAY
        # Partitions and plain tables lose whole months; a chunk may end on any day.
        end = before if how is Layout.CHUNKS else Month.of(before).begin
        # With its bound only partitions that go are read: without, all of the history each time.
        oldest = await session.scalar(select(func.min(table.start)).where(table.start < end))
        if oldest is None:
            return []
        await catch_up(session, self._database, rollup, oldest, end)
        if self._database.is_postgresql:
            await session.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
        return await drop(session, table, how, before)
