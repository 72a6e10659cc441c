"""Which replica collects: one leads under a lease in the database, the others stand by.

The lease decides who may begin to lead. Whether a leader may go on is asked before every batch: by its own
clock while the lease was renewed in time, and while the database is away, by a mark in the cache that every
successor leaves before its first tick. So prices flow on through an outage of the database, and a leader that
was cut off or asleep finds out before it publishes. What slips through all the same is of an epoch that no
other replica numbers in: only a leader that handed over leaves its epoch to its successor.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from prometheus_client import Counter, Gauge

from app.kit import logs
from app.kit.cache import Cache
from app.kit.errors import Unavailable
from app.kit.lease import Lease, LeaseLost

LEASE = "price-collector"
_MARK = "prices:leader"
"""Hash in the cache whose one field has the token of the leader, and the epoch that it handed over."""
_FIELD = "token"
_STANDBY_SECONDS = 0.5
_HAND_OVER_SECONDS = 3.0
_log = logs.get(__name__)
_leads = Gauge("price_collector_leader", "1 while this replica leads")
_terms = Counter("price_collector_terms_total", "Times that this replica began to lead")


class Term:
    """The right to collect, from `begin` until it is lost or handed over. `ttl` is that of the lease."""

    def __init__(self, lease: Lease, cache: Cache, ttl: float, token: int, acquired: float) -> None:
        """`acquired` is the monotonic time before the lease was asked for."""
        self._lease = lease
        self._cache = cache
        self._ttl = ttl
        self._valid_until = acquired + ttl
        self.token = token
        self.continues: str | None = None
        """The epoch that the leader before handed over; None where a new one begins."""

    async def begin(self) -> None:
        """Leave the mark by which a leader before sees that its time is over.

        Raises:
            LeaseLost: the lease ran out before, so that the mark may be a successor's.
            Unavailable: the cache does not answer.
        """
        before = await self._cache.read_field(_MARK, _FIELD)
        token, _, epoch = (before or b"").decode().partition(" ")
        self.continues = epoch if epoch and token == str(self.token - 1) else None
        if time.monotonic() >= self._valid_until:
            raise LeaseLost("it ran out before its holder began")
        await self._cache.write_hash(_MARK, {_FIELD: _led(self.token)})

    async def keep(self) -> None:
        """Renew the lease until cancelled.

        Raises:
            LeaseLost: somebody else has it.
        """
        while True:
            await asyncio.sleep(self._ttl / 3)
            begun = time.monotonic()
            try:
                async with asyncio.timeout(self._ttl):
                    await self._lease.renew(self.token)
                self._valid_until = begun + self._ttl
            except (Unavailable, TimeoutError) as error:
                _log.warning("the lease is not renewed", reason=str(error))

    async def confirm(self) -> None:
        """Return while this replica may publish; asked before each batch.

        Raises:
            LeaseLost: the lease ran out, and the cache shows a successor or does not answer.
        """
        if time.monotonic() < self._valid_until:
            return
        try:
            mark = await self._cache.read_field(_MARK, _FIELD)
        except Unavailable as error:
            raise LeaseLost("it ran out, and whether somebody took it cannot be seen") from error
        if mark != _led(self.token):
            raise LeaseLost("it ran out, and somebody took it")

    async def hand_over(self, epoch: str) -> None:
        """Leave an epoch to the successor: everything that was numbered is in the cache and on the bus.

        Raises:
            LeaseLost, Unavailable: it stays with this leader.
        """
        await self.confirm()
        await self._cache.write_hash(_MARK, {_FIELD: f"{self.token} {epoch}".encode()})


def _led(token: int) -> bytes:
    return f"{token}".encode()


class Candidate:
    """A replica: leads whenever nobody else does. `lead` does what a leader does until it is cancelled;
    `finish` brings it to its end in order and tells the epoch of which all is known, if there is one."""

    def __init__(
        self,
        lease: Lease,
        cache: Cache,
        ttl: float,
        lead: Callable[[Term], Awaitable[None]],
        finish: Callable[[], Awaitable[str | None]],
    ) -> None:
        self._lease = lease
        self._cache = cache
        self._ttl = ttl
        self._lead = lead
        self._finish = finish
        self._free = asyncio.Event()
        self._free.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Lead whenever nobody else does, until `stopping` is set.

        Raises:
            Unavailable: the database or the cache does not answer; to be started again.
        """
        while not stopping.is_set():
            asked = time.monotonic()
            token = await self._lease.acquire()
            if token is None:
                await _pause(stopping, _STANDBY_SECONDS)
                continue
            self._free.clear()
            try:
                await self._serve(Term(self._lease, self._cache, self._ttl, token, asked), stopping)
            finally:
                _leads.set(0)
                with suppress(Unavailable):
                    await self._lease.release(token)
                self._free.set()
            await _pause(stopping, _STANDBY_SECONDS)

    async def ended(self) -> None:
        """Return when this replica does not lead."""
        await self._free.wait()

    async def _serve(self, term: Term, stopping: asyncio.Event) -> None:
        try:
            await term.begin()
        except LeaseLost as error:
            _log.warning("does not lead", reason=str(error))
            return
        _leads.set(1)
        _terms.inc()
        _log.info("leads", token=term.token, continues=term.continues)
        work = asyncio.ensure_future(self._lead(term))
        kept = asyncio.create_task(term.keep())
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait((work, kept, stop), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            if kept.done():
                kept.result()
            await self._hand_over(term)
        except LeaseLost as error:
            _log.warning("leads no more", reason=str(error))
        finally:
            work.cancel()
            kept.cancel()
            stop.cancel()
            await asyncio.gather(work, kept, stop, return_exceptions=True)

    async def _hand_over(self, term: Term) -> None:
        try:
            async with asyncio.timeout(_HAND_OVER_SECONDS):
                epoch = await self._finish()
                if epoch is not None:
                    await term.hand_over(epoch)
                    _log.info("handed over", token=term.token, epoch=epoch)
                    return
        except (TimeoutError, Unavailable, LeaseLost) as error:
            _log.warning("left in haste", reason=repr(error))
        _log.warning("the next leader begins a new epoch", token=term.token)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()
