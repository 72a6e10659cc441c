"""The one writer: takes all commands that wait as one group, through one transaction, into the books."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import logs
from app.kit.errors import Unavailable
from app.kit.lease import LeaseLost
from app.kit.problems import Problem
from app.matching import metrics
from app.matching.accounts import Accounts
from app.matching.books import Books, Outcome
from app.matching.journal import pack
from app.matching.plan import Key, Planner
from app.matching.publisher import Publisher
from app.matching.repository import Batch
from app.matching.results import result_of
from app.matching.store import Store
from app.matching.tasks import Item, Plan, Task
from app.matching_client.commands import Oco, Place, Replace, Result
from app.wallet.ledger.repository import Contended
from app.wallet.ledger.transfers import Code

LARGEST_GROUP: Final = 500
SERVICE: Final = "matching-engine"
_PACE_SECONDS: Final = 0.02
"""From one group to the next: a transaction costs about as much as ten more orders in it."""
_ATTEMPTS: Final = 5
_RETRYABLE: Final = frozenset({"40001", "40P01"})
"""SQLSTATE of a serialization failure and a deadlock: PostgreSQL has rolled the transaction back."""
_log = logs.get(__name__)


class InDoubt(Exception):
    """It is not known whether the newest group was committed: the books have to be rebuilt."""


@dataclass(slots=True, eq=False)
class Call:
    """A command that waits for its answer."""

    task: Task
    answer: asyncio.Future[Result]
    since: float


class Writer:
    """Writes for one term of leadership.

    `last_order` is the newest order id, `deadlines` the dead-man switches (owner → Unix milliseconds), `most`
    the number of commands that may wait, `clock` tells Unix milliseconds.
    """

    def __init__(
        self,
        store: Store,
        token: int,
        books: Books,
        accounts: Accounts,
        planner: Planner,
        publisher: Publisher,
        *,
        last_order: int,
        deadlines: dict[str, int],
        most: int,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._token = token
        self._books = books
        self._accounts = accounts
        self._planner = planner
        self._publisher = publisher
        self._last_order = last_order
        self.deadlines = deadlines
        self._most = most
        self._clock = clock
        self._waiting: deque[Call] = deque()
        self._carried: list[Call] = []
        """The group that is under way."""
        self._news = asyncio.Event()
        self._closed = False
        self._in_doubt = False
        self.commands = 0
        """Commands of the core that this writer journaled."""

    def submit(self, task: Task) -> asyncio.Future[Result]:
        """The answer to come; it may be `Unavailable`.

        Raises:
            Problem: 503 `overloaded`, too many wait or too much is not on the bus yet.
            Unavailable: the term is over.
        """
        if self._closed:
            raise Unavailable(SERVICE, "it is not the leader any more")
        if len(self._waiting) >= self._most or self._publisher.is_full:
            detail = "The matching engine has more to do than it can take; try again."
            raise Problem(503, "overloaded", detail, headers={"Retry-After": "1"})
        call = Call(task, asyncio.get_running_loop().create_future(), time.perf_counter())
        self._waiting.append(call)
        self._news.set()
        return call.answer

    async def run(self) -> None:
        """Carry groups out until cancelled.

        Raises:
            LeaseLost: there is another leader.
            InDoubt: a commit was not answered.
        """
        try:
            while True:
                while not self._waiting:
                    self._news.clear()
                    await self._news.wait()
                self._carried = self._take()
                begun = time.monotonic()
                await self._carry(self._carried)
                self._carried = []
                await asyncio.sleep(begun + _PACE_SECONDS - time.monotonic())
        finally:
            self.close()

    async def drain(self) -> None:
        """Take nothing new and return when all that waits is answered."""
        self._closed = True
        pending = [call.answer for call in (*self._carried, *self._waiting)]
        if pending:
            await asyncio.wait(pending)

    def close(self) -> None:
        """Take nothing any more; whoever still waits is told to try again."""
        self._closed = True
        _fail(self._waiting, Unavailable(SERVICE, "its leader changes"))
        self._waiting.clear()

    def _take(self) -> list[Call]:
        """The commands that go together: of one order at most one replace, whose hold grows once."""
        group: list[Call] = []
        replaced: set[int] = set()
        while self._waiting and len(group) < LARGEST_GROUP:
            task = self._waiting[0].task
            if isinstance(task, Replace):
                if task.order_id in replaced:
                    break
                replaced.add(task.order_id)
            group.append(self._waiting.popleft())
        return group

    async def _carry(self, group: Sequence[Call]) -> None:
        """Have every call of a group answered."""
        try:
            plan = await self._committed(group)
        except Unavailable as error:
            _log.warning("commands are not taken", reason=str(error), commands=len(group))
            _fail(group, error)
        except (LeaseLost, InDoubt, asyncio.CancelledError):
            _fail(group, Unavailable(SERVICE, "its leader changes"))
            raise
        except Exception as error:
            _log.exception("commands failed", commands=len(group))
            if len(group) == 1:
                _fail(group, error)
                return
            for call in group:
                await self._carry([call])
        else:
            self._finish(group, plan)

    async def _committed(self, group: Sequence[Call]) -> Plan:
        """The plan of a group, once it is committed.

        Raises:
            LeaseLost, InDoubt: the term is over.
            Unavailable: nothing was written.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._transact([call.task for call in group])
            except BaseException as error:
                if self._in_doubt:
                    raise InDoubt(str(error)) from error
                self._planner.undo()
                if not _is_retryable(error):
                    raise
                if attempt == _ATTEMPTS:
                    raise Unavailable("ledger", error) from error
        raise AssertionError("not reached")

    async def _transact(self, tasks: Sequence[Task]) -> Plan:
        store = self._store
        at = max(self._clock(), self._books.at)
        async with store.database.transaction() as session:
            await store.lease.check(session, self._token)
            keys = _keys(tasks)
            known = await store.orders.known(session, keys) if keys else {}
            plan = self._planner.plan(tasks, known, self._last_order, at)
            await self._hold(session, plan)
            await store.orders.add(session, plan.orders())
            if plan.accounts:
                await store.accounts.add(session, plan.accounts)
            if plan.deadlines:
                await store.switches.set(session, plan.deadlines)
            sections = plan.sections()
            if sections:
                commands = sum(map(len, sections.values()))
                batch = Batch(self._books.batch + 1, self._token, at, commands, pack(sections))
                await store.journal.append(session, batch)
            self._in_doubt = True
        self._in_doubt = False
        self._planner.committed()
        return plan

    async def _hold(self, session: AsyncSession, plan: Plan) -> None:
        """Hold funds for orders; those that lack them are rejected."""
        holds = [hold for item in plan.items for hold in item.holds]
        amends = plan.amends()
        if not holds and not amends:
            return
        placed, amended = await self._store.funds.reserve(session, holds, amends)
        held = {hold.order_id: result.code for hold, result in zip(holds, placed, strict=True)}
        grown = {one.order_id: result.code for one, result in zip(amends, amended, strict=True)}
        for item in plan.items:
            codes = [held[hold.order_id] for hold in item.holds]
            if item.amend is not None:
                codes.append(grown[item.amend.order_id])
            if any(code is not Code.OK for code in codes):
                self._planner.refuse_funds(item)

    def _finish(self, group: Sequence[Call], plan: Plan) -> None:
        """Carry out what is committed and tell the senders."""
        committed = time.perf_counter()
        self._accounts.add(plan.accounts)
        self._last_order = plan.last_order
        for owner, deadline in plan.deadlines.items():
            if deadline:
                self.deadlines[owner] = deadline
            else:
                self.deadlines.pop(owner, None)
        sections = plan.sections()
        outcomes: dict[str, Iterable[Outcome]] = {}
        if sections:
            batch = self._books.batch + 1
            applied = self._books.apply(batch, plan.at, sections.items(), self._accounts)
            self.commands += sum(map(len, sections.values()))
            outcomes = {one.output.symbol: iter(one.outcomes) for one in applied}
            self._publisher.add(batch, applied)
            metrics.journal_batch.set(batch)
        metrics.group_size.observe(len(group))
        for call, item in zip(group, plan.items, strict=True):
            metrics.order_latency.observe(committed - call.since)
            self._answer(call, item, outcomes)

    def _answer(self, call: Call, item: Item, outcomes: dict[str, Iterable[Outcome]]) -> None:
        if item.entries:
            item.result = result_of(item, [next(iter(outcomes[symbol])) for symbol, _ in item.entries])
        if item.same_as is not None:
            first = item.same_as
            item.unknown = first.unknown
            item.result = first.result and first.result.model_copy(update={"repeated": True})
        if item.orders and item.result is not None:
            outcome = "rejected" if item.result.code == "rejected" else "accepted"
            for order in item.orders:
                metrics.orders_placed.labels(order.symbol, order.side, outcome).inc()
        if call.answer.done():
            return
        if item.unknown or item.result is None:
            call.answer.set_exception(Unavailable("order", "the first answer is not read yet"))
        else:
            call.answer.set_result(item.result)


def _keys(tasks: Iterable[Task]) -> list[Key]:
    legs = [
        leg
        for task in tasks
        for leg in ((task.first, task.second) if isinstance(task, Oco) else (task,))
        if isinstance(leg, Place)
    ]
    return list(dict.fromkeys((leg.owner, leg.client_order_id) for leg in legs))


def _is_retryable(error: BaseException) -> bool:
    """Whether another transaction was in the way."""
    state = str(getattr(error.orig, "sqlstate", "")) if isinstance(error, DBAPIError) else ""
    return isinstance(error, Contended) or state in _RETRYABLE


def _fail(calls: Iterable[Call], error: Exception) -> None:
    for call in calls:
        if not call.answer.done():
            call.answer.set_exception(error)
