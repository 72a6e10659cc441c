"""Recomputes the whole ledger and tells every difference. It repairs none: people decide what is right."""

import asyncio
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from app.kit import logs
from app.kit.database import Database
from app.kit.lease import Lease
from app.wallet.ledger.audit import AuditRepository, Difference

_log = logs.get(__name__)
imbalance = Gauge("ledger_imbalance", "Sum of all balances in smallest units; always 0", ["asset"])
differences = Gauge("ledger_differences", "Differences that the last reconciliation found")
_runs = Counter("ledger_reconciliations_total", "Reconciliations", ["outcome"])


@dataclass(frozen=True)
class Report:
    """What a reconciliation found."""

    imbalances: dict[str, int]
    """Asset → sum of all balances."""
    differences: list[Difference]
    """At most 100 of each check."""

    @property
    def is_clean(self) -> bool:
        """Whether everything agrees."""
        return not self.differences and not any(self.imbalances.values())


class Reconciliation:
    """Runs the checks on one snapshot of the ledger, while others go on writing."""

    def __init__(self, database: Database, seconds: float = 300.0) -> None:
        self._database = database
        self._seconds = seconds
        self._audit = AuditRepository(database)
        # Long enough to be the same replica's again next time, while it lives.
        self._lease = Lease(database, "ledger-reconciliation", "", 2 * seconds)

    async def check(self) -> Report:
        """Recompute every balance from postings and holds; sets the metrics and logs each difference.

        Raises:
            Unavailable: the database is gone.
        """
        async with self._database.transaction(read_only=True) as session:
            await self._audit.take_snapshot(session)
            sums = await self._audit.imbalances(session)
            found = [
                *await self._audit.balances(session),
                *await self._audit.held(session),
                *await self._audit.transfers(session),
                *await self._audit.assets(session),
                *await self._audit.strays(session),
            ]
        report = Report(sums, found)
        for asset, sum_ in sums.items():
            imbalance.labels(asset).set(sum_)
        differences.set(len(found))
        for difference in found:
            _log.error("ledger difference", **difference._asdict())
        _runs.labels("clean" if report.is_clean else "different").inc()
        return report

    async def run(self) -> None:
        """Check again and again until cancelled, in one process of all at a time; only there the metrics are
        set.

        Raises:
            Unavailable: the database is gone.
        """
        while True:
            if await self._lease.acquire() is not None:
                await self.check()
            else:
                imbalance.clear()
                differences.set(0)
            await asyncio.sleep(self._seconds)
