"""A replica of the matching engine: leads, or stands by for the leader."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from app.kit import logs
from app.kit.errors import Unavailable
from app.kit.lease import Holder, Lease, LeaseLost
from app.kit.problems import Problem
from app.matching import metrics
from app.matching.names import PHASE_NAMES
from app.matching.term import Parts, Term
from app.matching.writer import InDoubt
from app.matching_client.commands import NOT_LEADER, Command, Depth, Level, PublishedBooks, Result

LEASE: Final = "matching-engine"
_STANDBY_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 0.2
_log = logs.get(__name__)


class _Ended(Exception):
    """The process is to end: the term was brought to its end."""


def system_clock() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Engine:
    """The matching engine as its endpoints see it; `tell` hears whether it is ready, and why not."""

    def __init__(self, parts: Parts, tell: Callable[[bool, str], None]) -> None:
        self._parts = parts
        self._told = tell
        self.settled = asyncio.Event()
        """Set once this replica leads or has seen a leader."""
        self._term: Term | None = None
        self._leader: Holder | None = None
        self._free = asyncio.Event()
        self._free.set()

    @property
    def lease(self) -> Lease:
        """This replica as a candidate for leading."""
        return self._parts.store.lease

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads now."""
        return self._term is not None

    @property
    def token(self) -> int:
        """Of the term in which this replica leads; raises Problem 421 `not-leader`."""
        return self._leading().token

    async def submit(self, commands: Sequence[Command]) -> list[Result | None]:
        """Carry commands out; None for those of which it is not known.

        Raises:
            Problem: 421 `not-leader`; 503 `overloaded`, nothing was done.
        """
        writer = self._leading().writer
        answers: list[asyncio.Future[Result]] = []
        for command in commands:
            try:
                answers.append(writer.submit(command))
            except (Problem, Unavailable):
                if not answers:
                    raise
                break
        found = await asyncio.gather(*answers, return_exceptions=True)
        results = [_known(one) for one in found]
        return results + [None] * (len(commands) - len(results))

    def depth(self, symbol: str, levels: int) -> Depth:
        """The best levels of a book; raises Problem 421 `not-leader`."""
        book = self._leading().books.engines[symbol].book

        def side(found: list[tuple[int, int]]) -> tuple[Level, ...]:
            return tuple(Level(price=price, quantity=quantity) for price, quantity in found)

        return Depth(
            symbol=symbol,
            sequence=book.sequence,
            phase=PHASE_NAMES[book.phase],
            last_price=book.last_price,
            bids=side(book.bids.depth(levels)),
            asks=side(book.asks.depth(levels)),
        )

    def books(self) -> PublishedBooks:
        """Every book as it was published last; raises Problem 421 `not-leader`."""
        return PublishedBooks.model_construct(books=tuple(self._leading().depth.published()))

    async def republish(self, symbol: str, after: int) -> None:
        """Begin to publish the changes of a symbol behind `after` again.

        Raises:
            Problem: 421 `not-leader`; 409 `journal-too-short`, they are not kept any more.
            Unavailable: the database does not answer.
        """
        await self._leading().republisher.begin(symbol, after)

    async def reload_risk(self) -> None:
        """Take limits and switches as they are in the database; raises Problem 421, Unavailable."""
        await self._leading().reload_limits()

    def state(self) -> dict[str, dict[str, int | str]]:
        """Symbol → sequence, state_hash and batch; raises Problem 421 `not-leader`."""
        books = self._leading().books
        return {
            symbol: {
                "sequence": engine.book.sequence,
                "state_hash": engine.state_hash(),
                "batch": books.batch,
            }
            for symbol, engine in books.engines.items()
        }

    async def run(self, stopping: asyncio.Event) -> None:
        """Lead whenever nobody else does, until `stopping` is set.

        Raises:
            Unavailable: the database does not answer; to be started again.
        """
        lease = self.lease
        while not stopping.is_set():
            token = await lease.acquire()
            if token is None:
                self._leader = await lease.holder()
                waits = self._leader is None
                self._tell(not waits, "no leader" if waits else "")
                await _pause(stopping, _STANDBY_SECONDS)
                continue
            self._free.clear()
            try:
                await self._lead(token, stopping)
            finally:
                self._term = self._leader = None
                metrics.leader.set(0)
                with suppress(Unavailable):
                    await lease.release(token)
                self._free.set()
            await _pause(stopping, _AGAIN_SECONDS)

    async def ended(self) -> None:
        """Return when this replica does not lead."""
        await self._free.wait()

    async def _lead(self, token: int, stopping: asyncio.Event) -> None:
        self._tell(False, "recovering")
        term = Term(self._parts, token)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(term.keep_lease())
                await term.begin()
                group.create_task(term.run())
                self._term = term
                metrics.leader.set(1)
                self._tell(True, "")
                _log.info("leads", token=token, batch=term.books.batch)
                await stopping.wait()
                await term.end()
                raise _Ended
        except* _Ended:
            _log.info("hands over")
        except* (LeaseLost, InDoubt, Unavailable) as errors:
            _log.warning("leads no more", reason="; ".join(map(str, errors.exceptions)))

    def _tell(self, ready: bool, reason: str) -> None:
        if ready:
            self.settled.set()
        self._told(ready, reason)

    def _leading(self) -> Term:
        if self._term is not None:
            return self._term
        if self._leader is None:
            raise Problem(421, NOT_LEADER, "There is no leader now.")
        raise Problem(421, NOT_LEADER, "Another replica is the leader.", leader=self._leader.address)


def _known(found: Result | BaseException) -> Result | None:
    if isinstance(found, Result):
        return found
    if not isinstance(found, Unavailable):
        _log.error("a command failed", reason=repr(found))
    return None


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
