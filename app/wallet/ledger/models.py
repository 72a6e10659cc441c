"""Tables of the ledger. Transfers and postings are only ever added; accounts and holds are their sums.

There are no foreign keys: a posting or hold is added together with its transfer, to accounts that are locked,
and checking each of six again would cost more than all else of it. The reconciliation looks for strays.
"""

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.database import Base

_IDENTITY = BigInteger().with_variant(Integer(), "sqlite")
_ID = String(120)


class AssetRow(Base):
    """The scale that the amounts of an asset were written in; it never changes."""

    __tablename__ = "ledger_assets"

    code: Mapped[str] = mapped_column(String(12), primary_key=True)
    scale: Mapped[int]


class AccountRow(Base):
    """An account and its balance."""

    __tablename__ = "ledger_accounts"
    __table_args__ = (
        UniqueConstraint("owner", "asset", "kind"),
        CheckConstraint(
            "balance >= 0 OR kind IN ('custody', 'losses', 'suspense', 'loan')", name="not_overdrawn"
        ),
        CheckConstraint("balance <= 0 OR kind NOT IN ('custody', 'losses', 'loan')", name="not_overspent"),
        Index(
            "ix_ledger_accounts_loans",
            "owner",
            postgresql_where=text("kind = 'loan'"),
            sqlite_where=text("kind = 'loan'"),
        ),
    )

    id: Mapped[int] = mapped_column(_IDENTITY, primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    asset: Mapped[str] = mapped_column(String(12))
    kind: Mapped[str] = mapped_column(String(24))
    balance: Mapped[int] = mapped_column(BigInteger)


class TransferRow(Base):
    """A transfer and the first answer to it."""

    __tablename__ = "ledger_transfers"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    fingerprint: Mapped[int] = mapped_column(BigInteger)
    code: Mapped[str] = mapped_column(String(32))
    amount: Mapped[int] = mapped_column(BigInteger)
    hold_id: Mapped[str | None] = mapped_column(_ID)
    reference: Mapped[str] = mapped_column(_ID)
    created_at: Mapped[int] = mapped_column(BigInteger)
    """Unix time in milliseconds, like all times of the ledger."""


class PostingRow(Base):
    """An amount that went from one account to another."""

    __tablename__ = "ledger_postings"
    __table_args__ = (
        CheckConstraint("amount > 0", name="positive"),
        CheckConstraint("source_id <> target_id", name="two_accounts"),
        Index("ix_ledger_postings_source_id_id", "source_id", "id"),
        Index("ix_ledger_postings_target_id_id", "target_id", "id"),
    )

    id: Mapped[int] = mapped_column(_IDENTITY, primary_key=True)
    transfer_id: Mapped[str] = mapped_column(_ID)
    source_id: Mapped[int] = mapped_column(BigInteger)
    target_id: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[int] = mapped_column(BigInteger)
    source_balance: Mapped[int] = mapped_column(BigInteger)
    """After this posting, like `target_balance`."""
    target_balance: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[int] = mapped_column(BigInteger)


class HoldRow(Base):
    """An amount that is set aside."""

    __tablename__ = "ledger_holds"
    __table_args__ = (
        CheckConstraint("posted >= 0 AND released >= 0 AND posted + released <= amount", name="within"),
        CheckConstraint("(posted + released = amount) = (state <> 'pending')", name="closed"),
        Index(
            "ix_ledger_holds_expires_at",
            "expires_at",
            postgresql_where=text("state = 'pending'"),
            sqlite_where=text("state = 'pending'"),
        ),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    source_id: Mapped[int] = mapped_column(BigInteger)
    target_id: Mapped[int | None] = mapped_column(BigInteger)
    amount: Mapped[int] = mapped_column(BigInteger)
    posted: Mapped[int] = mapped_column(BigInteger)
    released: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(8))
    expires_at: Mapped[int | None] = mapped_column(BigInteger)
