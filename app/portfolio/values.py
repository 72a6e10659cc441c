"""The history of values: what everybody's funds were worth, every few minutes and at the end of each day."""

import asyncio
from collections.abc import Callable, Sequence

from prometheus_client import Counter

from app.kit import logs
from app.kit.lease import Lease, LeaseLost
from app.portfolio.repository import Kind, Value
from app.portfolio.service import Portfolio
from app.portfolio.settings import PortfolioSettings
from app.portfolio.valuation import Totals
from app.wallet.ledger.assets import LARGEST
from app.wallet.ledger.service import system_clock

_MINUTE = 60_000
_DAY = 1440 * _MINUTE
_PAGE = 100
"""Owners that share a transaction."""
_LEASE_SECONDS = 60.0
_PAUSE_SECONDS = 10.0
_log = logs.get(__name__)
_recorded = Counter("portfolio_values_total", "Values of owners computed for the history")


class ValueHistory:
    """Records values; of any number of replicas one does, under a lease. `clock` is Unix milliseconds.

    A day's value is the first one after midnight (UTC): what the day before ended with. Where a mark is
    missing or a sum is beyond what is counted, nothing is recorded.
    """

    def __init__(
        self, portfolio: Portfolio, settings: PortfolioSettings, clock: Callable[[], int] = system_clock
    ) -> None:
        self._portfolio = portfolio
        self._settings = settings
        self._clock = clock
        self._lease = Lease(portfolio.database, "portfolio-values", "", _LEASE_SECONDS)
        self._done = 0
        """Last moment whose values this process has recorded."""

    async def run(self) -> None:
        """Record until cancelled.

        Raises:
            Unavailable: the database is gone; to be started again, what was recorded stays.
        """
        token: int | None = None
        try:
            while True:
                token = await self._lease.acquire()
                if token is not None:
                    try:
                        await self.record(token)
                    except LeaseLost as error:
                        _log.warning("values are recorded elsewhere", reason=str(error))
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            if token is not None:
                await self._lease.release(token)

    async def record(self, token: int) -> None:
        """Record the values of this interval unless it was done, and delete old ones.

        Raises:
            LeaseLost: another process has the lease `token` was given for.
        """
        now = self._clock()
        moment = now - now % (self._settings.value_minutes * _MINUTE)
        if moment == self._done:
            return
        after = ""
        while owners := await self._page(token, moment, after):
            after = owners[-1]
        async with self._portfolio.database.transaction() as session:
            await self._lease.check(session, token)
            repository = self._portfolio.repository
            await repository.forget(session, "point", now - self._settings.point_days * _DAY)
            await repository.forget(session, "day", now - self._settings.day_days * _DAY)
        self._done = moment

    async def _page(self, token: int, moment: int, after: str) -> Sequence[str]:
        """Record the values of some owners; returns them."""
        await self._lease.renew(token)
        portfolio = self._portfolio
        kinds: tuple[tuple[Kind, int], ...] = (("point", moment), ("day", moment - moment % _DAY))
        async with portfolio.database.transaction(read_only=True) as session:
            owners = await portfolio.repository.owners(session, after, _PAGE)
            values = [
                _value(owner, sums, kind, at)
                for owner in owners
                for sums in (await portfolio.overview(session, owner)).totals.values()
                if _is_countable(sums)
                for kind, at in kinds
            ]
        async with portfolio.database.transaction() as session:
            await self._lease.check(session, token)
            await portfolio.repository.record(session, values)
        _recorded.inc(len(values))
        return owners


def _is_countable(sums: Totals) -> bool:
    amounts = (sums.net_cash, sums.holdings, sums.realised, sums.unrealised, sums.equity)
    return not sums.unpriced and max(map(abs, amounts)) <= LARGEST


def _value(owner: str, sums: Totals, kind: Kind, at: int) -> Value:
    return Value(
        owner=owner,
        currency=sums.currency,
        kind=kind,
        at=at,
        cash=sums.net_cash,
        holdings=sums.holdings,
        realised=sums.realised,
        unrealised=sums.unrealised,
    )
