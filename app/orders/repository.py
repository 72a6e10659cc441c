"""SQL of orders and fills; whole batches in one statement each."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import BigInteger, String, Table, Update, case, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import TypeEngine

from app.events.matching import MatchingOutput
from app.kit.bulk import document, insert_rows, per_row, rows, table_of
from app.kit.database import Database
from app.orders.changes import ENTERED, REJECTED, Fill, effect_of
from app.orders.models import FillRow, OrderRow


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRecord:
    """An order; see `OrderRow`. Prices are ticks, quantities lots, times Unix milliseconds, 0 is "none"."""

    order_id: int
    owner: str
    client_order_id: str
    symbol: str
    side: str
    order_type: str
    time_in_force: str
    quantity: int
    price: int = 0
    stop_price: int = 0
    expires_at: int = 0
    self_trade_prevention: str = "cancel_taker"
    post_only: bool = False
    origin: str = "user"
    group: int | None = None
    """Order id of the first of an OCO pair, in both of them."""
    status: str = "pending"
    filled: int = 0
    remaining: int = 0
    cost: int = 0
    """Sum of price times quantity over the fills."""
    reason: str = ""
    answer_status: str = ""
    """What the sender was told first; empty for as long as the projection has not read it."""
    answer_filled: int = 0
    answer_reason: str = ""
    created_at: int
    changed_at: int


_NAMES = [field.name for field in fields(OrderRecord)]
_FILL = [field.name for field in fields(Fill)]
_CHANGE: dict[str, TypeEngine[Any]] = {
    "order_id": BigInteger(),
    "changed_at": BigInteger(),
    "status": String(),
    "quantity": BigInteger(),
    "less": BigInteger(),
    "price": BigInteger(),
    "stop_price": BigInteger(),
    "remaining": BigInteger(),
    "filled": BigInteger(),
    "cost": BigInteger(),
    "reason": String(),
    "answer_status": String(),
    "answer_filled": BigInteger(),
    "answer_reason": String(),
}
"""Columns of `OrderChange`."""
_STOPS = ("stop", "stop_limit", "take_profit", "take_profit_limit")
_UNPRICED = ("market", "stop", "take_profit")
"""Types whose limit price is the engine's own, for their protection."""
_PLACED = {name: f"placed_{name}" for name in ("quantity", "price", "stop_price")}


class OrderRepository:
    """Orders and their fills."""

    def __init__(self, database: Database) -> None:
        self._orders, self._fills = table_of(OrderRow), table_of(FillRow)
        orders = self._orders
        self._add = insert_rows(database, orders, [*_NAMES, *_PLACED.values()], order="order_id")
        keys = {name: orders.c[name] for name in ("owner", "client_order_id")}
        given = rows(database, **{name: column.type for name, column in keys.items()})
        as_placed = [
            orders.c[_PLACED[name]].label(name) if name in _PLACED else orders.c[name] for name in _NAMES
        ]
        self._known = per_row(database, given, select(*as_placed), keys)
        self._last_id = select(func.coalesce(func.max(orders.c.order_id), 0))
        # A plan that was made while the table was small would read the whole table for as long as it is kept.
        self._fresh_plans = (
            text("SET LOCAL plan_cache_mode = force_custom_plan") if database.is_postgresql else None
        )
        self._change = _changing(database, orders)
        self._reject_partners = _rejecting_partners(database, orders)
        self._insert_fills = insert_rows(
            database, self._fills, _FILL, order="order_id"
        ).on_conflict_do_nothing()
        ids = rows(database, order_id=BigInteger())
        self._by_id = per_row(
            database, ids, select(*(orders.c[name] for name in _NAMES)), {"order_id": orders.c.order_id}
        )

    async def known(
        self, session: AsyncSession, keys: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], OrderRecord]:
        """Orders by (owner, client_order_id), of those that there are.

        Quantity and prices are as they were placed, whatever changed since: the request that comes again is
        the same one if they are equal to its own.
        """
        if not keys:
            return {}
        wanted = document({"owner": owner, "client_order_id": id} for owner, id in keys)
        found = (_record(row) for row in await session.execute(self._known, wanted))
        return {(record.owner, record.client_order_id): record for record in found}

    async def add(self, session: AsyncSession, orders: Sequence[OrderRecord]) -> None:
        """Insert orders; none of their ids and client ids may be known."""
        if orders:
            await session.execute(self._add, document(_columns(order) for order in orders))

    async def last_id(self, session: AsyncSession) -> int:
        """The largest order id; 0 when there is no order."""
        return int(await session.scalar(self._last_id) or 0)

    async def apply(self, session: AsyncSession, outputs: Sequence[MatchingOutput]) -> list[OrderRecord]:
        """Bring orders and fills to where these outputs leave them; returns the orders that are now filled.

        Outputs come once and in order for each symbol; those of orders that are not known have no effect.
        """
        effect = effect_of(outputs)
        if self._fresh_plans is not None:
            await session.execute(self._fresh_plans)
        if effect.orders:
            changes = sorted(effect.orders.values(), key=lambda change: change.order_id)
            await session.execute(self._change, document(changes))
        if effect.rejected:
            await session.execute(self._reject_partners, document(effect.rejected))
        if effect.fills:
            await session.execute(self._insert_fills, document(effect.fills))
        if not effect.completed:
            return []
        wanted = document({"order_id": order_id} for order_id in effect.completed)
        return [_record(row) for row in await session.execute(self._by_id, wanted)]


def _changing(database: Database, orders: Table) -> Update:
    """The statement that applies rows of `OrderChange`."""
    given = rows(database, **_CHANGE)
    new, old = given.c, orders.c
    entered = case((old.order_type.in_(_STOPS), "waiting"), else_="open")
    answered = new.answer_status != ""
    return (
        update(orders)
        .where(old.order_id == new.order_id)
        .values(
            status=case((new.status == "", old.status), (new.status == ENTERED, entered), else_=new.status),
            quantity=func.coalesce(new.quantity, old.quantity) - new.less,
            price=case((old.order_type.in_(_UNPRICED), old.price), else_=func.coalesce(new.price, old.price)),
            stop_price=func.coalesce(new.stop_price, old.stop_price),
            remaining=func.coalesce(new.remaining, old.remaining),
            filled=old.filled + new.filled,
            cost=old.cost + new.cost,
            reason=func.coalesce(new.reason, old.reason),
            answer_status=case((answered, new.answer_status), else_=old.answer_status),
            answer_filled=case((answered, new.answer_filled), else_=old.answer_filled),
            answer_reason=case((answered, new.answer_reason), else_=old.answer_reason),
            changed_at=new.changed_at,
        )
    )


def _rejecting_partners(database: Database, orders: Table) -> Update:
    """The statement that ends the second order of each pair whose first one was rejected: that tells both."""
    given = rows(database, order_id=BigInteger(), reason=String(), changed_at=BigInteger())
    return (
        update(orders)
        .where(orders.c.group == given.c.order_id, orders.c.status == "pending")
        .values(status=REJECTED, remaining=0, reason=given.c.reason, changed_at=given.c.changed_at)
    )


def _columns(order: OrderRecord) -> dict[str, object]:
    columns = {name: getattr(order, name) for name in _NAMES}
    return columns | {placed: columns[name] for name, placed in _PLACED.items()}


def _record(row: Sequence[object]) -> OrderRecord:
    return OrderRecord(**dict(zip(_NAMES, row, strict=True)))  # type: ignore[arg-type]
