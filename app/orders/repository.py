"""SQL of orders and fills; whole batches in one statement each."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.bulk import document, insert_rows, per_row, rows, table_of
from app.kit.database import Database
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


def _columns(order: OrderRecord) -> dict[str, object]:
    columns = asdict(order)
    return columns | {placed: columns[name] for name, placed in _PLACED.items()}


def _record(row: Sequence[object]) -> OrderRecord:
    return OrderRecord(**dict(zip(_NAMES, row, strict=True)))  # type: ignore[arg-type]
