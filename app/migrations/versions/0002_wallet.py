"""Ledger, order holds, settlements and withdrawals"""

import sqlalchemy as sa
from alembic import op

revision = "0002_wallet"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.String(120)


def _identity() -> sa.types.TypeEngine[int]:
    """SQLite counts rows up only in a column that is exactly INTEGER."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _account(name: str, *, nullable: bool = False) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), sa.ForeignKey("ledger_accounts.id"), nullable=nullable)


def _big(*names: str) -> "list[sa.Column[int]]":
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def upgrade() -> None:
    _ledger()
    _wallet()


def _ledger() -> None:
    op.create_table(
        "ledger_assets",
        sa.Column("code", sa.String(12), primary_key=True),
        sa.Column("scale", sa.Integer(), nullable=False),
    )
    op.create_table(
        "ledger_accounts",
        sa.Column("id", _identity(), primary_key=True, autoincrement=True),
        sa.Column("owner", sa.String(80), nullable=False),
        sa.Column("asset", sa.String(12), nullable=False),
        sa.Column("kind", sa.String(24), nullable=False),
        *_big("balance"),
        sa.UniqueConstraint("owner", "asset", "kind"),
        sa.CheckConstraint("balance >= 0 OR kind IN ('custody', 'losses', 'suspense')", "not_overdrawn"),
        sa.CheckConstraint("balance <= 0 OR kind NOT IN ('custody', 'losses')", "not_overspent"),
    )
    op.create_table(
        "ledger_transfers",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("fingerprint", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("hold_id", _ID, nullable=True),
        sa.Column("reference", _ID, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "ledger_postings",
        sa.Column("id", _identity(), primary_key=True, autoincrement=True),
        sa.Column("transfer_id", _ID, sa.ForeignKey("ledger_transfers.id"), nullable=False),
        _account("source_id"),
        _account("target_id"),
        *_big("amount", "source_balance", "target_balance", "created_at"),
        sa.CheckConstraint("amount > 0", "positive"),
        sa.CheckConstraint("source_id <> target_id", "two_accounts"),
    )
    op.create_index("ix_ledger_postings_source_id_id", "ledger_postings", ["source_id", "id"])
    op.create_index("ix_ledger_postings_target_id_id", "ledger_postings", ["target_id", "id"])
    op.create_table(
        "ledger_holds",
        sa.Column("id", _ID, sa.ForeignKey("ledger_transfers.id"), primary_key=True),
        _account("source_id"),
        _account("target_id", nullable=True),
        *_big("amount", "posted", "released"),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("posted >= 0 AND released >= 0 AND posted + released <= amount", "within"),
        sa.CheckConstraint("(posted + released = amount) = (state <> 'pending')", "closed"),
    )
    pending = sa.text("state = 'pending'")
    op.create_index(
        "ix_ledger_holds_expires_at",
        "ledger_holds",
        ["expires_at"],
        postgresql_where=pending,
        sqlite_where=pending,
    )


def _wallet() -> None:
    op.create_table(
        "wallet_orders",
        sa.Column("order_id", sa.String(80), primary_key=True),
        sa.Column("owner", sa.String(80), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("maker_ppm", sa.Integer(), nullable=False),
        sa.Column("taker_ppm", sa.Integer(), nullable=False),
        sa.Column("carry", sa.Integer(), nullable=False),
        sa.CheckConstraint("carry >= 0 AND carry < 1000000", "carry_is_a_fraction"),
    )
    op.create_table(
        "wallet_settlements",
        sa.Column("symbol", sa.String(20), primary_key=True),
        sa.Column("trade_id", sa.String(60), primary_key=True),
        sa.Column("buy_order_id", sa.String(80), nullable=False),
        sa.Column("sell_order_id", sa.String(80), nullable=False),
        sa.Column("taker_side", sa.String(4), nullable=False),
        *_big("price", "quantity", "notional", "buyer_fee", "seller_fee", "settled_at"),
    )
    op.create_table(
        "wallet_withdrawals",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("owner", sa.String(80), nullable=False),
        sa.Column("asset", sa.String(12), nullable=False),
        *_big("amount"),
        sa.Column("destination", sa.String(200), nullable=False),
        sa.Column("second_factor", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("approved_by", sa.String(80), nullable=True),
        sa.Column("decided_by", sa.String(80), nullable=True),
        sa.Column("note", sa.String(200), nullable=True),
        *_big("created_at", "changed_at"),
        sa.CheckConstraint("amount > 0", "positive"),
        sa.CheckConstraint("approved_by <> owner", "four_eyes"),
    )
    for column in ("owner", "state"):
        op.create_index(
            f"ix_wallet_withdrawals_{column}_created_at", "wallet_withdrawals", [column, "created_at"]
        )


def downgrade() -> None:
    for table in (
        "wallet_withdrawals",
        "wallet_settlements",
        "wallet_orders",
        "ledger_holds",
        "ledger_postings",
        "ledger_transfers",
        "ledger_accounts",
        "ledger_assets",
    ):
        op.drop_table(table)
