"""SQL of order holds and settlements; whole batches, orders locked in the order of their ids."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.bulk import document, insert_rows, per_row, rows, table_of
from app.kit.database import Database
from app.wallet.models import OrderRow, SettlementRow


@dataclass(frozen=True, slots=True)
class Order:
    """What the wallet knows of an order; see `OrderRow`."""

    order_id: str
    owner: str
    symbol: str
    side: str
    maker_ppm: int
    taker_ppm: int
    carry: int = 0
    hold_group: str | None = None
    ended: bool = False
    requested: int = 0
    seen: int = 0
    extra: int = 0
    price: int = 0
    remaining: int = 0

    @property
    def hold_id(self) -> str:
        """The ledger's hold that pays for the order."""
        return hold_id(self.order_id, self.hold_group)


@dataclass(frozen=True, slots=True)
class Settled:
    """A settled trade; amounts are smallest units of the quote."""

    symbol: str
    trade_id: str
    buy_order_id: str
    sell_order_id: str
    taker_side: str
    price: int
    quantity: int
    notional: int
    buyer_fee: int
    seller_fee: int
    settled_at: int


def hold_id(order_id: str, group: str | None = None) -> str:
    """Id of an order's hold, or of the one that the orders of a group share."""
    return f"hold:{order_id}" if group is None else f"group-hold:{group}"


_ORDER = [field.name for field in fields(Order)]
_CHANGING = ("carry", "ended", "requested", "seen", "extra", "price", "remaining")
_SETTLED = [field.name for field in fields(Settled)]


class OrderRepository:
    """Orders that funds are held for, and their trades."""

    def __init__(self, database: Database) -> None:
        orders, settlements = table_of(OrderRow), table_of(SettlementRow)
        saving = insert_rows(database, orders, _ORDER, order="order_id")
        self._add = saving.on_conflict_do_nothing()
        self._save = saving.on_conflict_do_update(
            index_elements=["order_id"], set_={name: saving.excluded[name] for name in _CHANGING}
        )
        given = rows(database, order_id=orders.c.order_id.type)
        chosen = select(*(orders.c[name] for name in _ORDER))
        self._lock = per_row(database, given, chosen, {"order_id": orders.c.order_id}, lock=True)
        self._of_groups = select(*(orders.c[name] for name in _ORDER)).where(
            orders.c.hold_group.in_(bindparam("groups", expanding=True))
        )
        self._settle = insert_rows(database, settlements, _SETTLED, order="trade_id")
        keys = {name: settlements.c[name] for name in ("symbol", "trade_id")}
        trades = rows(database, **{name: column.type for name, column in keys.items()})
        chosen = select(*(settlements.c[name] for name in _SETTLED))
        self._settled = per_row(database, trades, chosen, keys)

    async def add(self, session: AsyncSession, orders: Sequence[Order]) -> None:
        """Remember orders; those that are known stay as they are."""
        await session.execute(self._add, document(orders))

    async def lock(self, session: AsyncSession, ids: Iterable[str]) -> dict[str, Order]:
        """Orders by id, locked to the end of the transaction."""
        found = await session.execute(self._lock, document({"order_id": id} for id in ids))
        return {row.order_id: Order(*row) for row in found}

    async def of_groups(self, session: AsyncSession, groups: Collection[str]) -> dict[str, Order]:
        """Every order of some groups, by id."""
        found = await session.execute(self._of_groups, {"groups": sorted(groups)})
        return {row.order_id: Order(*row) for row in found}

    async def settled(
        self, session: AsyncSession, trades: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], Settled]:
        """Those of the trades (symbol, id) that are settled."""
        wanted = document({"symbol": symbol, "trade_id": id} for symbol, id in trades)
        return {
            (row.symbol, row.trade_id): Settled(*row) for row in await session.execute(self._settled, wanted)
        }

    async def save_trades(self, session: AsyncSession, settled: Sequence[Settled]) -> None:
        """Add settlements."""
        if settled:
            await session.execute(self._settle, document(settled))

    async def save(self, session: AsyncSession, orders: Sequence[Order]) -> None:
        """Write what changes of orders that are known."""
        if orders:
            await session.execute(self._save, document(orders))
