"""Tables of the wallet above the ledger."""

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.database import Base

_IDENTITY = BigInteger().with_variant(Integer(), "sqlite")


class OrderRow(Base):
    """An order that funds are held for, with the fee rates of the moment it was placed."""

    __tablename__ = "wallet_orders"
    __table_args__ = (
        CheckConstraint("carry >= 0 AND carry < 1000000", name="carry_is_a_fraction"),
        CheckConstraint("seen >= 0 AND seen <= requested", name="seen_was_requested"),
        Index(
            "ix_wallet_orders_hold_group",
            "hold_group",
            postgresql_where=text("hold_group IS NOT NULL"),
            sqlite_where=text("hold_group IS NOT NULL"),
        ),
    )

    order_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    symbol: Mapped[str] = mapped_column(String(20))
    side: Mapped[str] = mapped_column(String(4))
    maker_ppm: Mapped[int] = mapped_column(Integer)
    taker_ppm: Mapped[int] = mapped_column(Integer)
    carry: Mapped[int] = mapped_column(Integer)
    """Fee accrued but not yet charged, in millionths of the quote's smallest unit."""
    hold_group: Mapped[str | None] = mapped_column(String(80))
    """Orders with the same one share a hold."""
    ended: Mapped[bool] = mapped_column(default=False)
    """Kept for orders that share a hold only."""
    requested: Mapped[int] = mapped_column(Integer, default=0)
    """Replaces that were asked for."""
    seen: Mapped[int] = mapped_column(Integer, default=0)
    """Replaces that the matching engine has decided on."""
    extra: Mapped[int] = mapped_column(BigInteger, default=0)
    """By how much the hold was grown for replaces, since it was last shrunk to what is needed."""
    price: Mapped[int] = mapped_column(BigInteger, default=0)
    """Limit in ticks after the last replace; 0 before the first one."""
    remaining: Mapped[int] = mapped_column(BigInteger, default=0)
    """Lots after the last replace and its trades."""


class LoanRow(Base):
    """A loan of an asset to a user, and until when its interest is booked. The debt is in the ledger."""

    __tablename__ = "wallet_loans"
    __table_args__ = (
        UniqueConstraint("owner", "asset"),
        CheckConstraint("carry >= 0 AND carry < 87600000", name="carry_is_a_fraction"),
        Index("ix_wallet_loans_hour", "hour"),
    )

    id: Mapped[int] = mapped_column(_IDENTITY, primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    asset: Mapped[str] = mapped_column(String(12))
    hour: Mapped[int] = mapped_column(Integer)
    """Hours since 1970; those before it are booked."""
    carry: Mapped[int] = mapped_column(Integer)
    """Interest that is not booked, in 1/87,600,000 of the smallest unit."""


class IdentityRow(Base):
    """How far a user's identity is verified."""

    __tablename__ = "wallet_identities"

    owner: Mapped[str] = mapped_column(String(80), primary_key=True)
    level: Mapped[int] = mapped_column(Integer)


class SettlementRow(Base):
    """A trade that the ledger holds both sides of."""

    __tablename__ = "wallet_settlements"

    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
    trade_id: Mapped[str] = mapped_column(String(60), primary_key=True)
    buy_order_id: Mapped[str] = mapped_column(String(80))
    sell_order_id: Mapped[str] = mapped_column(String(80))
    taker_side: Mapped[str] = mapped_column(String(4))
    price: Mapped[int] = mapped_column(BigInteger)
    quantity: Mapped[int] = mapped_column(BigInteger)
    notional: Mapped[int] = mapped_column(BigInteger)
    buyer_fee: Mapped[int] = mapped_column(BigInteger)
    seller_fee: Mapped[int] = mapped_column(BigInteger)
    settled_at: Mapped[int] = mapped_column(BigInteger)


class WithdrawalRow(Base):
    """A withdrawal and where it stands."""

    __tablename__ = "wallet_withdrawals"
    __table_args__ = (
        CheckConstraint("amount > 0", name="positive"),
        CheckConstraint("approved_by <> owner", name="four_eyes"),
        Index("ix_wallet_withdrawals_owner_created_at", "owner", "created_at"),
        Index("ix_wallet_withdrawals_state_created_at", "state", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    asset: Mapped[str] = mapped_column(String(12))
    amount: Mapped[int] = mapped_column(BigInteger)
    destination: Mapped[str] = mapped_column(String(200))
    second_factor: Mapped[bool]
    """Whether the request was proved by a second factor."""
    state: Mapped[str] = mapped_column(String(12))
    approved_by: Mapped[str | None] = mapped_column(String(80))
    decided_by: Mapped[str | None] = mapped_column(String(80))
    """Operator of the last step."""
    note: Mapped[str | None] = mapped_column(String(200))
    """Why it was rejected, or the name that bank or network gave the payment."""
    created_at: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[int] = mapped_column(BigInteger)
