"""Margin calls and forced closes: a state machine whose every step can be repeated after a crash.

called → (the margin is restored) met
called → (deadline) cancelling → selling → closed

A state, and what is going to be done in it, is written before it is done: an order has a client_order_id
made of call and step, which enters one order however often it is sent and holds a slash, so that its owner
cannot have used it; and a repayment is one transaction with its step. So a process that takes over goes on
from the newest row.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

from prometheus_client import Counter, Gauge
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.envelope import Envelope
from app.events.trading import MarginCall
from app.kit import logs, outbox
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.matching_client.commands import CancelAll, Command, Place, Result
from app.risk import events
from app.risk.controls import Controls, Switch
from app.risk.margin import NoPrice, Trade, next_trade
from app.risk.margin_repository import MarginRepository
from app.risk.margin_service import Account, MarginService
from app.risk.models import ClosingStepRow, MarginCallRow
from app.wallet.ledger.assets import ASSETS

ACTOR: Final = "risk"
"""In the audit, for what the platform does by itself."""
_ROUNDS: Final = 50
"""Steps of one owner before others get their turn."""
_UNFILLED_MS: Final = 5_000
"""How long a market in which an order traded nothing is left alone."""
_PATIENCE_MS: Final = 10_000
"""How long a close waits for held funds when nothing can be sold."""
_log = logs.get(__name__)
_live = Gauge("risk_margin_calls", "Margin calls that wait for an answer or are being closed")
_closed = Counter("risk_forced_closes_total", "Forced closes that came to their end", ["outcome"])

Check = Callable[[AsyncSession], Awaitable[None]]
"""Raises when another process does this work by now; called in every transaction that writes."""

Choices = Callable[[frozenset[str]], Trade | None]
"""What to trade next when some symbols do not trade."""


class Engine(Protocol):
    """What a forced close asks of the matching engine."""

    async def submit(self, command: Command) -> Result:
        """See `app.matching_client.client.MatchingClient.submit`."""


class MarginCalls:
    """Watches owners with debts; one process at a time, see `Check`."""

    def __init__(
        self,
        database: Database,
        repository: MarginRepository,
        service: MarginService,
        controls: Controls,
        engine: Engine,
        clock: Callable[[], int],
        check: Check,
    ) -> None:
        self._database = database
        self._repository = repository
        self._service = service
        self._settings = service.settings
        self._controls = controls
        self._engine = engine
        self._clock = clock
        self._check = check

    async def tick(self) -> None:
        """Look at everybody who owes something or has a call; an owner who fails does not stop the others.

        Raises:
            Unavailable: database, ledger or engine did not answer for one of them.
        """
        async with self._database.transaction(read_only=True) as session:
            debts = await self._service.funds.debts(session)
            calls = {call.owner: call.id for call in await self._repository.live(session)}
            below = [
                owner
                for owner, owed in debts.items()
                if owner not in calls and await self._is_below(session, owner, owed)
            ]
        _live.set(len(calls))
        failed: Unavailable | None = None
        for owner in sorted([*below, *calls]):
            try:
                await self._look(owner, calls.get(owner))
            except NoPrice as error:
                _log.error("margin is not known", owner=owner, reason=str(error))
            except Unavailable as error:
                failed = error
        if failed is not None:
            raise failed

    async def _is_below(self, session: AsyncSession, owner: str, owed: Mapping[str, int]) -> bool:
        try:
            found = (await self._service.account(session, owner, debts=owed)).margin
        except NoPrice as error:
            _log.error("margin is not known", owner=owner, reason=str(error))
            return False
        return not found.meets(self._settings.maintenance_margin_ppm)

    async def _look(self, owner: str, call_id: int | None) -> None:
        if call_id is None:
            await self._call(owner)
            return
        for _ in range(_ROUNDS):
            async with self._database.transaction(read_only=True) as session:
                call = await self._repository.get(session, call_id)
            if call.state == "called":
                more = await self._wait(call)
            elif call.state == "cancelling":
                more = await self._cancel(call)
            elif call.state == "selling":
                more = await self._sell(call)
            else:
                return
            if not more:
                return

    async def _call(self, owner: str) -> None:
        """Send out a margin call if it is needed."""
        async with self._database.transaction() as session:
            await self._check(session)
            account = await self._service.account(session, owner)
            found = account.margin
            if found.meets(self._settings.maintenance_margin_ppm):
                return
            if not await self._can_close(session, owner, account):
                return
            now = self._clock()
            required = found.required(self._settings.maintenance_margin_ppm)
            call = MarginCallRow(
                owner=owner,
                state="called",
                step=0,
                deadline=now + self._patience(found.equity, required),
                equity=found.equity,
                debt=found.debt,
                required=required,
                opened_at=now,
                changed_at=now,
            )
            await self._repository.add(session, call)
            told = MarginCall(account=owner, required=required, available=found.equity)
            values = {
                "required": ASSETS["USD"].text(required),
                "equity": ASSETS["USD"].text(found.equity),
                "seconds": str((call.deadline - now) // 1000),
            }
            await outbox.write(
                session,
                [
                    events.of_account(told, f"margin-call:{call.id}"),
                    events.alert(owner, "margin-call", values, f"margin-call:{call.id}"),
                ],
            )

    async def _wait(self, call: MarginCallRow) -> bool:
        """End an answered call, or begin to close when time is over; whether to go on at once."""
        async with self._database.transaction() as session:
            await self._check(session)
            call = await self._repository.get(session, call.id)
            found = (await self._service.account(session, call.owner)).margin
            now = self._clock()
            if found.meets(self._settings.maintenance_margin_ppm):
                call.state, call.changed_at = "met", now
                ended = events.MarginCallEnded(account=call.owner, call_id=call.id, reason="restored")
                await outbox.write(session, [events.of_account(ended, f"margin-call:{call.id}:ended")])
                return False
            required = found.required(self._settings.maintenance_margin_ppm)
            call.deadline = min(call.deadline, now + self._patience(found.equity, required))
            if now < call.deadline:
                return False
        await self._switch(call.id, "called", "cancelling", active=True)
        return True

    async def _switch(
        self, call_id: int, before: str, after: str, *, active: bool, told: Sequence[Envelope] = ()
    ) -> None:
        """Refuse or take the owner's orders from this state on."""
        async with self._database.transaction() as session:
            await self._check(session)
            await self._controls.repository.next_version(session)
            call = await self._repository.get(session, call_id)
            if call.state == before:
                call.state, call.changed_at = after, self._clock()
                changed = await self._controls.change_switch(
                    session, ACTOR, Switch("margin", call.owner), active, f"margin call {call.id}"
                )
                await outbox.write(session, [*changed, *told])
        await self._controls.reload()

    async def _cancel(self, call: MarginCallRow) -> bool:
        await self._controls.reload()
        await self._engine.submit(CancelAll(owner=call.owner))
        async with self._database.transaction() as session:
            await self._check(session)
            call = await self._repository.get(session, call.id)
            call.state, call.changed_at = "selling", self._clock()
        return True

    async def _sell(self, call: MarginCallRow) -> bool:
        """The next step of a forced close; whether to go on at once."""
        async with self._database.transaction(read_only=True) as session:
            step = await self._repository.step(session, call.id, call.step)
            settled = (
                step is None
                or step.state != "sent"
                or await self._service.funds.is_settled(session, step.order_id)
            )
        if step is not None and step.state == "planned":
            await self._send(call, step)
            return True
        if not settled:
            return False
        async with self._database.transaction() as session:
            await self._check(session)
            call = await self._repository.get(session, call.id)
            step = await self._repository.step(session, call.id, call.step)
            if step is not None:
                step.state = "done"
            account = await self._service.account(session, call.owner)
            if await self._repay(session, call, account):
                return True
            healthy = not account.debts or account.margin.meets(self._settings.initial_margin_ppm)
            held, waits = any(holding.held for holding in account.holdings.values()), False
            if not healthy:
                choose = await self._choices(session, call.owner, account)
                unfilled = await self._repository.unfilled_since(
                    session, call.id, self._clock() - _UNFILLED_MS
                )
                trade = choose(frozenset(row.symbol for row in unfilled))
                if trade is not None:
                    await self._plan(session, call, "trade", trade.symbol, trade.side, trade.lots)
                    return True
                may_come = held and self._clock() - call.changed_at < _PATIENCE_MS
                waits = may_come or choose(frozenset()) is not None
        if not waits:
            await self._finish(call, account, healthy=healthy)
        elif held:
            await self._engine.submit(CancelAll(owner=call.owner))
        return False

    async def _send(self, call: MarginCallRow, step: ClosingStepRow) -> None:
        """Send a planned order; sent before, it is answered as then."""
        order = Place(
            owner=call.owner,
            client_order_id=f"margin/{call.id}/{step.step}",
            symbol=step.symbol,
            side="buy" if step.side == "buy" else "sell",
            order_type="market",
            quantity=step.quantity,
            time_in_force="ioc",
            self_trade_prevention="cancel_maker",
            origin="forced_close",
        )
        result = await self._engine.submit(order)
        async with self._database.transaction() as session:
            await self._check(session)
            row = await self._repository.step(session, call.id, step.step)
            if row is None or row.state != "planned":
                return
            entered = result.orders[0] if result.orders and result.code == "ok" else None
            row.state = "sent" if entered else "done"
            row.order_id = entered.order_id if entered else 0
            row.filled = entered.filled if entered else 0
            row.reason = (entered.reason if entered else result.reason)[:60]
            row.at = self._clock()

    async def _repay(self, session: AsyncSession, call: MarginCallRow, account: Account) -> bool:
        """Pay back what free funds of the same asset allow; one loan at a time, last in its transaction."""
        for asset, owed in sorted(account.debts.items()):
            amount = min(owed, account.free.get(asset, 0))
            if amount > 0:
                await self._plan(session, call, "repay", asset, "", amount)
                id = f"margin-{call.id}-{call.step}"
                await self._service.funds.repay(session, call.owner, asset, amount, id)
                return True
        return False

    async def _can_close(self, session: AsyncSession, owner: str, account: Account) -> bool:
        """Whether a close would change anything: who has nothing left is not called again and again."""
        choose = await self._choices(session, owner, account)
        return (
            any(account.free.get(asset, 0) for asset in account.debts)
            or any(holding.held for holding in account.holdings.values())
            or choose(frozenset()) is not None
        )

    async def _choices(self, session: AsyncSession, owner: str, account: Account) -> Choices:
        limits = (await self._controls.repository.load(session))[1]

        def choose(closed: frozenset[str]) -> Trade | None:
            return next_trade(
                account.margin,
                self._settings.initial_margin_ppm,
                account.free,
                account.debts,
                account.prices,
                self._service.haircuts,
                lambda symbol: limits.of(owner, symbol).collar_bps,
                closed,
            )

        return choose

    async def _plan(
        self, session: AsyncSession, call: MarginCallRow, kind: str, symbol: str, side: str, quantity: int
    ) -> None:
        """Write down what comes next; a repayment is done with the transaction of its plan."""
        call.step += 1
        call.changed_at = self._clock()
        step = ClosingStepRow(
            call_id=call.id,
            step=call.step,
            kind=kind,
            state="planned" if kind == "trade" else "done",
            symbol=symbol,
            side=side,
            quantity=quantity,
            order_id=0,
            filled=0,
            reason="",
            at=call.changed_at,
        )
        await self._repository.add(session, step)

    async def _finish(self, call: MarginCallRow, account: Account, *, healthy: bool) -> None:
        """Lift the switch and tell everybody."""
        async with self._database.transaction(read_only=True) as session:
            steps = await self._repository.steps(session, call.id)
        orders = sum(step.kind == "trade" for step in steps)
        id = f"margin-call:{call.id}"
        closed = events.ForcedClose(
            account=call.owner, call_id=call.id, orders=orders, debt=account.margin.debt, healthy=healthy
        )
        ended = events.MarginCallEnded(account=call.owner, call_id=call.id, reason="closed")
        values = {"orders": str(orders), "debt": ASSETS["USD"].text(account.margin.debt)}
        told = [
            events.of_account(closed, f"{id}:forced-close"),
            events.of_account(ended, f"{id}:ended"),
            events.alert(call.owner, "forced-close", values, f"{id}:forced-close"),
        ]
        await self._switch(call.id, "selling", "closed", active=False, told=told)
        _closed.labels("healthy" if healthy else "uncovered").inc()
        _log.warning("forced close", owner=call.owner, call=call.id, orders=orders, healthy=healthy)

    def _patience(self, equity: int, required: int) -> int:
        """Milliseconds to answer a call."""
        urgent = equity * 2 < required
        seconds = self._settings.urgent_call_seconds if urgent else self._settings.margin_call_seconds
        return seconds * 1000
