"""The services of the role `risk`, and what it does by itself."""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import logs
from app.kit.database import Database
from app.kit.lease import Lease, LeaseLost
from app.risk.closing import Engine, MarginCalls
from app.risk.controls import Controls
from app.risk.funds import Funds
from app.risk.margin_repository import MarginRepository
from app.risk.margin_service import MarginService
from app.risk.position_repository import PositionRepository
from app.risk.repository import LimitsRepository
from app.risk.settings import RiskSettings
from app.risk.watch import Watch

_LEASE: Final = "risk-margin"
_LEASE_SECONDS: Final = 15.0
_SECONDS: Final = 1.0
"""Between two looks at margins."""
_ROUNDS_TO_SCAN: Final = 5
"""Looks at margins for each one at all positions, which takes longer and only tells."""
_log = logs.get(__name__)


def system_clock() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Matching(Engine, Protocol):
    """The matching engine, see `app.matching_client.client.MatchingClient`."""

    async def reload_risk(self) -> None:
        """Have it read limits and switches now; raises Unavailable."""


@dataclass(frozen=True)
class Risk:
    """The services of one process."""

    database: Database
    settings: RiskSettings
    limits: LimitsRepository
    controls: Controls
    margin: MarginService
    calls: MarginRepository
    positions: PositionRepository
    watch: Watch
    engine: Matching
    clock: Callable[[], int]

    @classmethod
    def of(
        cls,
        database: Database,
        settings: RiskSettings,
        *,
        funds: Funds,
        mark: Callable[[str], int | None],
        engine: Matching,
        clock: Callable[[], int] = system_clock,
    ) -> "Risk":
        """The services with their adapters; `clock` is Unix time in milliseconds.

        `mark` tells the price of a symbol in ticks, None when there is none.
        """
        limits, positions = LimitsRepository(database, settings), PositionRepository(database)
        return cls(
            database=database,
            settings=settings,
            limits=limits,
            controls=Controls(database, limits, engine.reload_risk, clock),
            margin=MarginService(funds, mark, settings),
            calls=MarginRepository(),
            positions=positions,
            watch=Watch(database, positions, limits, clock),
            engine=engine,
            clock=clock,
        )

    async def run_margin(self) -> None:
        """Look after margins every second and limits every five, one process at a time; run until cancelled.

        Raises:
            Unavailable: database or engine are gone; to be started again.
        """
        lease = Lease(self.database, _LEASE, "", _LEASE_SECONDS)
        while True:
            token = await lease.acquire()
            if token is None:
                await asyncio.sleep(_SECONDS)
                continue
            try:
                await self._look_after(lease, token)
            except LeaseLost as error:
                _log.warning("another process looks after margins", reason=str(error))
            finally:
                await lease.release(token)

    async def _look_after(self, lease: Lease, token: int) -> None:
        async def check(session: AsyncSession) -> None:
            await lease.check(session, token)

        calls = MarginCalls(
            self.database, self.calls, self.margin, self.controls, self.engine, self.clock, check
        )
        for number in itertools.count():
            await lease.renew(token)
            if number % _ROUNDS_TO_SCAN == 0:
                await self.watch.scan(check)
            await calls.tick()
            await asyncio.sleep(_SECONDS)
