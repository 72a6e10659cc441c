"""Tables of orders and fills: prices are ticks, quantities lots, times Unix milliseconds, 0 is "none"."""

from sqlalchemy import BigInteger, CheckConstraint, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.database import Base

IS_OPEN = text("status IN ('pending', 'open', 'waiting', 'partially_filled')")
"""Orders that may still trade; `pending` ones are journaled, their first changes are not read yet. Literal,
so that the index on open orders fits whatever the plan."""
_IS_PAIR = '"group" IS NOT NULL'


class OrderRow(Base):
    """An order as its owner asked for it, and where it stands."""

    __tablename__ = "orders"
    __table_args__ = (
        UniqueConstraint("owner", "client_order_id"),
        CheckConstraint("quantity >= 0 AND filled >= 0 AND remaining >= 0 AND cost >= 0", name="amounts"),
        Index("ix_orders_owner_order_id", "owner", "order_id"),
        Index(
            "ix_orders_open",
            "owner",
            "order_id",
            postgresql_where=IS_OPEN,
            sqlite_where=IS_OPEN,
        ),
        Index("ix_orders_group", "group", postgresql_where=text(_IS_PAIR), sqlite_where=text(_IS_PAIR)),
    )

    order_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(String(80))
    client_order_id: Mapped[str] = mapped_column(String(64))
    symbol: Mapped[str] = mapped_column(String(20))
    side: Mapped[str] = mapped_column(String(4))
    order_type: Mapped[str] = mapped_column(String(20))
    time_in_force: Mapped[str] = mapped_column(String(3))
    quantity: Mapped[int] = mapped_column(BigInteger)
    price: Mapped[int] = mapped_column(BigInteger)
    stop_price: Mapped[int] = mapped_column(BigInteger)
    placed_quantity: Mapped[int] = mapped_column(BigInteger)
    """The terms as they were placed: a repeated request is recognised by them, whatever changed since."""
    placed_price: Mapped[int] = mapped_column(BigInteger)
    placed_stop_price: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    self_trade_prevention: Mapped[str] = mapped_column(String(12))
    post_only: Mapped[bool]
    origin: Mapped[str] = mapped_column(String(12))
    group: Mapped[int | None] = mapped_column(BigInteger)
    """Order id of the first of an OCO pair, in both of them."""
    status: Mapped[str] = mapped_column(String(16))
    filled: Mapped[int] = mapped_column(BigInteger)
    remaining: Mapped[int] = mapped_column(BigInteger)
    """Lots that may still trade."""
    cost: Mapped[int] = mapped_column(BigInteger)
    """Sum of price times quantity over the fills."""
    reason: Mapped[str] = mapped_column(String(60))
    """Why it is cancelled or rejected."""
    answer_status: Mapped[str] = mapped_column(String(16))
    """What the sender was told first; empty for as long as that is not read from the stream."""
    answer_filled: Mapped[int] = mapped_column(BigInteger)
    answer_reason: Mapped[str] = mapped_column(String(60))
    created_at: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[int] = mapped_column(BigInteger)


class FillRow(Base):
    """What one order had of one trade; an order belongs to one symbol, and so do its trade ids."""

    __tablename__ = "fills"
    __table_args__ = (
        CheckConstraint("price > 0 AND quantity > 0", name="amounts"),
        Index("ix_fills_owner_at", "owner", "at", "order_id", "trade_id"),
    )

    order_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    trade_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(String(80))
    symbol: Mapped[str] = mapped_column(String(20))
    side: Mapped[str] = mapped_column(String(4))
    price: Mapped[int] = mapped_column(BigInteger)
    quantity: Mapped[int] = mapped_column(BigInteger)
    maker: Mapped[bool]
    """Whether the order rested in the book."""
    at: Mapped[int] = mapped_column(BigInteger)
