"""All SQL of the portfolio; whole batches. Nothing here commits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.matching import Side
from app.kit.bulk import document, insert_rows, per_row, rows, table_of
from app.kit.database import Database
from app.portfolio.models import EntryRow, PositionRow, ValueRow
from app.portfolio.position import Position

Key = tuple[str, str]
"""Owner and symbol."""
Kind = Literal["day", "point"]


@dataclass(frozen=True, slots=True)
class Held:
    """A stored position."""

    position: Position
    entries: int = 0
    changed_at: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a trade and what it made of the position; see `EntryRow`."""

    owner: str
    symbol: str
    number: int
    sequence: int
    at: int
    trade_id: int
    order_id: int
    side: Side
    liquidity: Literal["maker", "taker"]
    price: int
    quantity: int
    lots: int
    cost: int
    realised: int
    gained: int

    @property
    def position(self) -> Position:
        """After the trade."""
        return Position(self.lots, self.cost, self.realised)


@dataclass(frozen=True, slots=True)
class Value:
    """A recorded worth; see `ValueRow`."""

    owner: str
    currency: str
    kind: Kind
    at: int
    cash: int
    holdings: int
    realised: int
    unrealised: int


_POSITION = ("owner", "symbol", "lots", "cost", "realised", "entries", "changed_at")
_ENTRY = [field.name for field in fields(Entry)]
_VALUE = [field.name for field in fields(Value)]


class PortfolioRepository:
    """Positions, their entries and recorded values."""

    def __init__(self, database: Database) -> None:
        positions, entries, values = table_of(PositionRow), table_of(EntryRow), table_of(ValueRow)
        keys = {name: positions.c[name] for name in ("owner", "symbol")}
        given = rows(database, **{name: column.type for name, column in keys.items()})
        self._found = per_row(database, given, select(*(positions.c[name] for name in _POSITION)), keys)
        saving = insert_rows(database, positions, _POSITION, order="symbol")
        self._save = saving.on_conflict_do_update(
            index_elements=list(keys), set_={name: saving.excluded[name] for name in _POSITION[2:]}
        )
        self._append = insert_rows(database, entries, _ENTRY, order="number")
        self._record = insert_rows(database, values, _VALUE, order="at").on_conflict_do_nothing()
        self._entries, self._values = entries, values

    async def held(self, session: AsyncSession, keys: Iterable[Key]) -> dict[Key, Held]:
        """Those of the positions that exist.

        They change only in the transaction that holds the symbol's place in the stream, so no row is locked.
        """
        wanted = document({"owner": owner, "symbol": symbol} for owner, symbol in keys)
        return {(row.owner, row.symbol): _held(row) for row in await session.execute(self._found, wanted)}

    async def save(
        self, session: AsyncSession, positions: Mapping[Key, Held], entries: Sequence[Entry]
    ) -> None:
        """Store positions and add their entries."""
        changed = (
            {
                "owner": owner,
                "symbol": symbol,
                **asdict(held.position),
                "entries": held.entries,
                "changed_at": held.changed_at,
            }
            for (owner, symbol), held in positions.items()
        )
        await session.execute(self._save, document(changed))
        await session.execute(self._append, document(entries))

    async def positions(self, session: AsyncSession, owner: str) -> dict[str, Held]:
        """An owner's positions by symbol, closed ones included."""
        chosen = select(table_of(PositionRow)).where(PositionRow.owner == owner).order_by(PositionRow.symbol)
        return {row.symbol: _held(row) for row in await session.execute(chosen)}

    async def owners(self, session: AsyncSession, after: str, limit: int) -> Sequence[str]:
        """Owners who ever traded, by name, behind `after`."""
        chosen = select(PositionRow.owner).distinct().where(PositionRow.owner > after)
        return (await session.scalars(chosen.order_by(PositionRow.owner).limit(limit))).all()

    async def entries(
        self, session: AsyncSession, owner: str, symbol: str, before: int | None, limit: int
    ) -> list[Entry]:
        """The newest entries of a position with numbers below `before`, the newest first."""
        chosen = select(*(self._entries.c[name] for name in _ENTRY)).where(
            EntryRow.owner == owner, EntryRow.symbol == symbol
        )
        if before is not None:
            chosen = chosen.where(EntryRow.number < before)
        found = await session.execute(chosen.order_by(EntryRow.number.desc()).limit(limit))
        return [Entry(*row) for row in found]

    async def realised(
        self, session: AsyncSession, owner: str, start: int | None, end: int | None
    ) -> dict[str, int]:
        """Symbol → what was realised from `start` to before `end`, in ticks times lots."""
        before = 0 if start is None else func.coalesce(_realised_before(start), 0)
        until = PositionRow.realised if end is None else func.coalesce(_realised_before(end), 0)
        chosen = select(PositionRow.symbol, (until - before).label("realised")).where(
            PositionRow.owner == owner
        )
        return {
            row.symbol: row.realised for row in await session.execute(chosen.order_by(PositionRow.symbol))
        }

    async def record(self, session: AsyncSession, values: Sequence[Value]) -> None:
        """Add values; those of a moment that has one already stay as they are."""
        if values:
            await session.execute(self._record, document(values))

    async def values(
        self, session: AsyncSession, owner: str, currency: str, kind: Kind, start: int
    ) -> list[Value]:
        """Values of one kind since `start`, oldest first."""
        chosen = select(*(self._values.c[name] for name in _VALUE)).where(
            ValueRow.owner == owner,
            ValueRow.currency == currency,
            ValueRow.kind == kind,
            ValueRow.at >= start,
        )
        return [Value(*row) for row in await session.execute(chosen.order_by(ValueRow.at))]

    async def forget(self, session: AsyncSession, kind: Kind, before: int) -> None:
        """Delete old values."""
        await session.execute(delete(ValueRow).where(ValueRow.kind == kind, ValueRow.at < before))


def _held(row: object) -> Held:
    """From a row of positions."""
    lots, cost, realised, entries, changed_at = (getattr(row, name) for name in _POSITION[2:])
    return Held(Position(lots, cost, realised), entries, changed_at)


def _realised_before(moment: int) -> ColumnElement[int]:
    """What the position of the outer query had realised when `moment` came."""
    return (
        select(EntryRow.realised)
        .where(EntryRow.owner == PositionRow.owner, EntryRow.symbol == PositionRow.symbol)
        .where(EntryRow.at < moment)
        .order_by(EntryRow.at.desc(), EntryRow.number.desc())
        .limit(1)
        .correlate(PositionRow)
        .scalar_subquery()
    )
