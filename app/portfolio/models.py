"""Tables of the portfolio. Prices are ticks, quantities lots, times Unix milliseconds."""

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.database import Base


class PositionRow(Base):
    """What an owner holds of a symbol through trades; amounts are ticks times lots."""

    __tablename__ = "portfolio_positions"

    owner: Mapped[str] = mapped_column(String(80), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
    lots: Mapped[int] = mapped_column(BigInteger)
    cost: Mapped[int] = mapped_column(BigInteger)
    realised: Mapped[int] = mapped_column(BigInteger)
    entries: Mapped[int] = mapped_column(BigInteger)
    """How many trades made it."""
    changed_at: Mapped[int] = mapped_column(BigInteger)


class EntryRow(Base):
    """One side of a trade and the position after it; amounts are ticks times lots."""

    __tablename__ = "portfolio_entries"
    __table_args__ = (Index("ix_portfolio_entries_at", "owner", "symbol", "at", "number"),)

    owner: Mapped[str] = mapped_column(String(80), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """1, 2, 3, … for each position."""
    sequence: Mapped[int] = mapped_column(BigInteger)
    """Of the trade in the matching engine's output."""
    at: Mapped[int] = mapped_column(BigInteger)
    """Never before that of the entry before."""
    trade_id: Mapped[int] = mapped_column(BigInteger)
    order_id: Mapped[int] = mapped_column(BigInteger)
    side: Mapped[str] = mapped_column(String(4))
    liquidity: Mapped[str] = mapped_column(String(5))
    """`maker` or `taker`."""
    price: Mapped[int] = mapped_column(BigInteger)
    quantity: Mapped[int] = mapped_column(BigInteger)
    lots: Mapped[int] = mapped_column(BigInteger)
    cost: Mapped[int] = mapped_column(BigInteger)
    realised: Mapped[int] = mapped_column(BigInteger)
    """By all trades of the position up to this one."""
    gained: Mapped[int] = mapped_column(BigInteger)
    """By this one."""


class ValueRow(Base):
    """What an owner's funds were worth in a currency; smallest units of it."""

    __tablename__ = "portfolio_values"
    __table_args__ = (Index("ix_portfolio_values_kind_at", "kind", "at"),)

    owner: Mapped[str] = mapped_column(String(80), primary_key=True)
    currency: Mapped[str] = mapped_column(String(12), primary_key=True)
    kind: Mapped[str] = mapped_column(String(5), primary_key=True)
    """`day`: the first value of a UTC day, which the day before ended with; `point`: within the day."""
    at: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    cash: Mapped[int] = mapped_column(BigInteger)
    """Without what is owed."""
    holdings: Mapped[int] = mapped_column(BigInteger)
    realised: Mapped[int] = mapped_column(BigInteger)
    unrealised: Mapped[int] = mapped_column(BigInteger)
