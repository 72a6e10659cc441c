"""SQL of positions, open orders and what was told of them."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Numeric, case, cast, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.bulk import document, insert_rows, per_row, rows, table_of
from app.kit.database import Database
from app.orders.models import IS_OPEN, OrderRow
from app.risk.day import DayPosition, DayPrice
from app.risk.models import AlertRow, PositionRow, PriceRow

Key = tuple[str, str]
"""Owner and symbol."""
_POSITION = ("owner", "symbol", "lots", "day", "start", "cash")
_PRICE = ("symbol", "last", "day", "open")


class PositionRepository:
    """Positions and last prices as trades made them, and alerts that still hold."""

    def __init__(self, database: Database) -> None:
        self._database = database
        positions, prices = table_of(PositionRow), table_of(PriceRow)
        keys = {name: positions.c[name] for name in ("owner", "symbol")}
        given = rows(database, **{name: column.type for name, column in keys.items()})
        self._positions = per_row(database, given, select(*(positions.c[name] for name in _POSITION)), keys)
        saving = insert_rows(database, positions, _POSITION, order="place")
        self._save = saving.on_conflict_do_update(
            index_elements=["owner", "symbol"],
            set_={name: saving.excluded[name] for name in _POSITION[2:]},
        )
        saving = insert_rows(database, prices, _PRICE, order="place")
        self._save_prices = saving.on_conflict_do_update(
            index_elements=["symbol"], set_={name: saving.excluded[name] for name in _PRICE[1:]}
        )

    async def positions(self, session: AsyncSession, keys: Iterable[Key]) -> dict[Key, DayPosition]:
        """Positions that there are."""
        wanted = document({"owner": owner, "symbol": symbol} for owner, symbol in keys)
        return _positions(await session.execute(self._positions, wanted))

    async def positions_of(self, session: AsyncSession, owner: str) -> dict[Key, DayPosition]:
        """All positions of an owner."""
        chosen = select(*(getattr(PositionRow, name) for name in _POSITION)).where(PositionRow.owner == owner)
        return _positions(await session.execute(chosen))

    async def active(self, session: AsyncSession, day: int) -> dict[Key, DayPosition]:
        """Positions that are not closed, or were traded on a day."""
        chosen = select(*(getattr(PositionRow, name) for name in _POSITION))
        return _positions(
            await session.execute(chosen.where((PositionRow.lots != 0) | (PositionRow.day >= day)))
        )

    async def prices(self, session: AsyncSession) -> dict[str, DayPrice]:
        """Symbol → prices."""
        found = await session.scalars(select(PriceRow))
        return {row.symbol: DayPrice(row.last, row.day, row.open) for row in found}

    async def save(
        self,
        session: AsyncSession,
        positions: Mapping[Key, DayPosition],
        prices: Mapping[str, DayPrice],
    ) -> None:
        """Write positions and prices, in the order of their keys."""
        changed = (
            {
                "place": place,
                "owner": owner,
                "symbol": symbol,
                "lots": held.lots,
                "day": held.day,
                "start": held.start,
                "cash": str(held.cash),
            }
            for place, ((owner, symbol), held) in enumerate(sorted(positions.items(), key=lambda i: i[0]))
        )
        await session.execute(self._save, document(changed))
        priced = (
            {"place": place, "symbol": symbol, "last": price.last, "day": price.day, "open": price.open}
            for place, (symbol, price) in enumerate(sorted(prices.items(), key=lambda item: item[0]))
        )
        await session.execute(self._save_prices, document(priced))

    async def open_orders(self, session: AsyncSession, owner: str) -> dict[Key, tuple[int, int]]:
        """(Symbol, side) → lots and ticks times lots of an owner's open orders, as far as they are known.

        Orders without a limit count with their stop price, market orders on their way with none.
        """
        price = case((OrderRow.price > 0, OrderRow.price), else_=OrderRow.stop_price)
        lots = (
            cast(OrderRow.remaining, Numeric(40, 0)) if self._database.is_postgresql else OrderRow.remaining
        )
        chosen = (
            select(OrderRow.symbol, OrderRow.side, func.sum(lots), func.sum(lots * price))
            .where(OrderRow.owner == owner, IS_OPEN)
            .group_by(OrderRow.symbol, OrderRow.side)
        )
        found = await session.execute(chosen)
        return {(symbol, side): (int(sum_), int(worth)) for symbol, side, sum_, worth in found}

    async def alerts(self, session: AsyncSession, kind: str) -> set[Key]:
        """Owner and subject of what was told and still holds."""
        chosen = select(AlertRow.owner, AlertRow.subject).where(AlertRow.kind == kind)
        return {(owner, subject) for owner, subject in await session.execute(chosen)}

    async def note(self, session: AsyncSession, kind: str, keys: Sequence[Key], at: int) -> None:
        """Remember what is told now."""
        session.add_all(AlertRow(kind=kind, owner=owner, subject=subject, at=at) for owner, subject in keys)
        await session.flush()

    async def forget(self, session: AsyncSession, kind: str, keys: Sequence[Key]) -> None:
        """What holds no longer is told again when it comes back."""
        for owner, subject in keys:
            await session.execute(
                delete(AlertRow).where(
                    AlertRow.kind == kind, AlertRow.owner == owner, AlertRow.subject == subject
                )
            )


def _positions(found: Iterable[Sequence[object]]) -> dict[Key, DayPosition]:
    return {
        (str(owner), str(symbol)): DayPosition(*(int(str(value)) for value in values))
        for owner, symbol, *values in found
    }
