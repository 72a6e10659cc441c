"""SQL that reads orders and fills, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.bulk import table_of
from app.orders.changes import Fill
from app.orders.models import IS_OPEN, FillRow, OrderRow
from app.orders.repository import OrderRecord

_orders, _fills = table_of(OrderRow), table_of(FillRow)
_ORDER = [_orders.c[field.name] for field in fields(OrderRecord)]
_FILL = [_fills.c[field.name] for field in fields(Fill)]


@dataclass(frozen=True)
class OrderFilter:
    """Which orders are wanted; times are Unix milliseconds, of the entry."""

    owner: str
    symbol: str | None = None
    statuses: tuple[str, ...] = ()
    active: bool = False
    """Only orders that may still trade."""
    since: int = 0
    """At or after."""
    until: int = 0
    """Before; 0 for no end."""


class OrderHistory:
    """Orders and fills of one owner at a time."""

    async def get(self, session: AsyncSession, owner: str, order_id: int) -> OrderRecord | None:
        """An order; None when there is none of that id and owner."""
        found = select(*_ORDER).where(_orders.c.order_id == order_id, _orders.c.owner == owner)
        return await self._one(session, found)

    async def by_client_id(self, session: AsyncSession, owner: str, id: str) -> OrderRecord | None:
        """An order by what its owner calls it; None when there is none."""
        found = select(*_ORDER).where(_orders.c.owner == owner, _orders.c.client_order_id == id)
        return await self._one(session, found)

    async def page(
        self, session: AsyncSession, wanted: OrderFilter, before: int | None, limit: int
    ) -> list[OrderRecord]:
        """The newest orders before an order id, the newest first."""
        found = select(*_ORDER).where(_orders.c.owner == wanted.owner)
        if wanted.symbol is not None:
            found = found.where(_orders.c.symbol == wanted.symbol)
        if wanted.active:
            found = found.where(IS_OPEN)
        if wanted.statuses:
            found = found.where(_orders.c.status.in_(wanted.statuses))
        if wanted.since:
            found = found.where(_orders.c.created_at >= wanted.since)
        if wanted.until:
            found = found.where(_orders.c.created_at < wanted.until)
        if before is not None:
            found = found.where(_orders.c.order_id < before)
        rows = await session.execute(found.order_by(_orders.c.order_id.desc()).limit(limit))
        return [_order(row) for row in rows]

    async def fills_of(
        self, session: AsyncSession, order_id: int, before: int | None, limit: int
    ) -> list[Fill]:
        """The newest fills of an order before a trade id, the newest first."""
        found = select(*_FILL).where(_fills.c.order_id == order_id)
        if before is not None:
            found = found.where(_fills.c.trade_id < before)
        rows = await session.execute(found.order_by(_fills.c.trade_id.desc()).limit(limit))
        return [Fill(*row) for row in rows]

    async def fills(
        self,
        session: AsyncSession,
        owner: str,
        symbol: str | None,
        before: tuple[int, int, int] | None,
        limit: int,
    ) -> list[Fill]:
        """The newest fills of an owner before (time, order id, trade id), the newest first."""
        place = _fills.c.at, _fills.c.order_id, _fills.c.trade_id
        found = select(*_FILL).where(_fills.c.owner == owner)
        if symbol is not None:
            found = found.where(_fills.c.symbol == symbol)
        if before is not None:
            found = found.where(tuple_(*place) < tuple_(*before))
        rows = await session.execute(found.order_by(*(column.desc() for column in place)).limit(limit))
        return [Fill(*row) for row in rows]

    async def _one(self, session: AsyncSession, found: Select[*tuple[Any, ...]]) -> OrderRecord | None:
        row = (await session.execute(found)).one_or_none()
        return None if row is None else _order(row)


def _order(row: Sequence[object]) -> OrderRecord:
    names = (column.name for column in _ORDER)
    return OrderRecord(**dict(zip(names, row, strict=True)))  # type: ignore[arg-type]
