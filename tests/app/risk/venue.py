"""A wallet, an engine and a clock that the tests of margin control; and a database that dies on demand."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from app.instruments import INSTRUMENTS
from app.kit.database import Database
from app.matching_client.commands import CancelAll, Command, OrderState, Place, Result
from app.risk.closing import MarginCalls
from app.risk.controls import Controls
from app.risk.funds import Holding
from app.risk.margin_repository import MarginRepository
from app.risk.margin_service import MarginService
from app.risk.repository import LimitsRepository
from app.risk.settings import RiskSettings
from app.wallet.ledger.assets import base_of, base_units, notional

UNIT = 10**8


class Crash(BaseException):
    """The process ends here."""


@dataclass
class Fuse:
    """Ends the process at one of the points that it passes."""

    at: int | None = None
    passed: int = 0

    def point(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            raise Crash


class Dying:
    """A database around whose commits the process may end."""

    def __init__(self, database: Database, fuse: Fuse) -> None:
        self._database, self._fuse = database, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @asynccontextmanager
    async def transaction(self, *, read_only: bool = False) -> AsyncIterator[AsyncSession]:
        async with self._database.transaction(read_only=read_only) as session:
            yield session
            if not read_only:
                self._fuse.point()
        if not read_only:
            self._fuse.point()


@dataclass
class Venue:
    """Wallet and engine of one world; they outlive the process that is tested."""

    prices: dict[str, int] = field(default_factory=dict)
    funds: dict[str, dict[str, Holding]] = field(default_factory=dict)
    owed: dict[str, dict[str, int]] = field(default_factory=dict)
    repaid: dict[str, int] = field(default_factory=dict)
    orders: dict[str, Place] = field(default_factory=dict)
    answers: dict[str, Result] = field(default_factory=dict)
    unsettled: dict[int, Place] = field(default_factory=dict)
    asked: dict[int, int] = field(default_factory=dict)
    open_holds: dict[str, str] = field(default_factory=dict)
    """Owner → asset that open orders hold completely."""
    refusing: dict[str, str] = field(default_factory=dict)
    """Symbol → why its market takes no order."""
    reloads: int = 0
    now: int = 1_800_000_000_000
    fuse: Fuse = field(default_factory=Fuse)

    def mark(self, symbol: str) -> int | None:
        return self.prices.get(symbol)

    def move(self, owner: str, asset: str, free: int, held: int = 0) -> None:
        known = self.funds.setdefault(owner, {}).get(asset, Holding())
        self.funds[owner][asset] = Holding(known.free + free, known.held + held)

    async def holdings(self, session: AsyncSession, owner: str) -> dict[str, Holding]:
        return dict(self.funds.get(owner, {}))

    async def debts(
        self, session: AsyncSession, owners: Sequence[str] | None = None
    ) -> dict[str, dict[str, int]]:
        found = {owner: {a: n for a, n in debts.items() if n} for owner, debts in self.owed.items()}
        return {o: debts for o, debts in found.items() if debts and (owners is None or o in owners)}

    async def repay(self, session: AsyncSession, owner: str, asset: str, amount: int, id: str) -> None:
        def commit(_: object) -> None:
            assert id not in self.repaid
            self.repaid[id] = amount
            self.owed[owner][asset] -= amount
            self.move(owner, asset, -amount)
            assert self.owed[owner][asset] >= 0
            assert self.funds[owner][asset].free >= 0

        event.listen(session.sync_session, "after_commit", commit, once=True)

    async def is_settled(self, session: AsyncSession, order_id: int) -> bool:
        """Settled when asked for the third time."""
        self.asked[order_id] = self.asked.get(order_id, 0) + 1
        if order_id in self.unsettled and self.asked[order_id] > 2:
            self._settle(self.unsettled.pop(order_id))
        return order_id not in self.unsettled

    def _settle(self, order: Place) -> None:
        instrument = INSTRUMENTS[order.symbol]
        base, cost = base_of(instrument), notional(instrument, self.prices[order.symbol], order.quantity)
        goods = base_units(instrument, order.quantity)
        if order.side == "sell":
            self.move(order.owner, base, 0, -goods)
            self.move(order.owner, instrument.currency, cost)
        else:
            self.move(order.owner, instrument.currency, 0, -cost)
            self.move(order.owner, base, goods)

    async def submit(self, command: Command) -> Result:
        self.fuse.point()
        result = self._carry_out(command)
        self.fuse.point()
        return result

    def _carry_out(self, command: Command) -> Result:
        if isinstance(command, CancelAll):
            asset = self.open_holds.pop(command.owner, None)
            if asset:
                held = self.funds[command.owner][asset].held
                self.move(command.owner, asset, held, -held)
            return Result(kind="cancel_all", code="ok")
        assert isinstance(command, Place)
        known = self.orders.get(command.client_order_id)
        if known is not None:
            assert known == command, "sent again with another content"
            return self.answers[command.client_order_id].model_copy(update={"repeated": True})
        self.orders[command.client_order_id] = command
        answer = self._place(command, len(self.orders))
        self.answers[command.client_order_id] = answer
        return answer

    def _place(self, order: Place, id: int) -> Result:
        if order.symbol in self.refusing:
            return Result(kind="place", code="rejected", reason=self.refusing[order.symbol])
        instrument = INSTRUMENTS[order.symbol]
        if order.side == "sell":
            asset, amount = base_of(instrument), base_units(instrument, order.quantity)
        else:
            asset = instrument.currency
            amount = notional(instrument, self.prices[order.symbol], order.quantity)
        assert self.funds[order.owner][asset].free >= amount, "more than there is"
        self.move(order.owner, asset, -amount, amount)
        self.unsettled[id] = order
        state = OrderState(
            order_id=id,
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            status="filled",
            filled=order.quantity,
            remaining=0,
            created_at=self.now,
        )
        return Result(kind="place", code="ok", orders=(state,))

    async def reload(self) -> None:
        self.reloads += 1
        self.fuse.point()


def calls(venue: Venue, database: Database, settings: RiskSettings | None = None) -> MarginCalls:
    """The worker of a process that starts now."""
    settings = settings or RiskSettings()
    dying: Any = Dying(database, venue.fuse)

    async def check(_: AsyncSession) -> None:
        return

    def clock() -> int:
        return venue.now

    controls = Controls(dying, LimitsRepository(dying, settings), venue.reload, clock)
    service = MarginService(venue, venue.mark, settings)
    return MarginCalls(dying, MarginRepository(), service, controls, venue, clock, check)
