"""Settlement of matched orders and margin loans"""

import sqlalchemy as sa
from alembic import op

revision = "0008_settlement"
down_revision = "0007_risk"
branch_labels = None
depends_on = None


_FOREIGN_KEYS = {
    "ledger_postings": {
        "transfer_id": "ledger_transfers",
        "source_id": "ledger_accounts",
        "target_id": "ledger_accounts",
    },
    "ledger_holds": {
        "id": "ledger_transfers",
        "source_id": "ledger_accounts",
        "target_id": "ledger_accounts",
    },
}


def upgrade() -> None:
    for table, columns in _FOREIGN_KEYS.items():
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.drop_constraint(f"fk_{table}_{column}", type_="foreignkey")
    op.drop_index("ix_outbox_shard_id", "outbox")
    _orders()
    _kinds(overdrawn="'custody', 'losses', 'suspense', 'loan'", overspent="'custody', 'losses', 'loan'")
    loans = sa.text("kind = 'loan'")
    op.create_index(
        "ix_ledger_accounts_loans", "ledger_accounts", ["owner"], postgresql_where=loans, sqlite_where=loans
    )
    op.create_table(
        "wallet_loans",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("owner", sa.String(80), nullable=False),
        sa.Column("asset", sa.String(12), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("carry", sa.Integer(), nullable=False),
        sa.UniqueConstraint("owner", "asset"),
        sa.CheckConstraint("carry >= 0 AND carry < 87600000", "carry_is_a_fraction"),
    )
    op.create_index("ix_wallet_loans_hour", "wallet_loans", ["hour"])
    op.create_table(
        "wallet_identities",
        sa.Column("owner", sa.String(80), primary_key=True),
        sa.Column("level", sa.Integer(), nullable=False),
    )


def _kinds(*, overdrawn: str, overspent: str) -> None:
    with op.batch_alter_table("ledger_accounts") as table:
        for name in ("not_overdrawn", "not_overspent"):
            table.drop_constraint(name, type_="check")
        table.create_check_constraint("not_overdrawn", f"balance >= 0 OR kind IN ({overdrawn})")
        table.create_check_constraint("not_overspent", f"balance <= 0 OR kind NOT IN ({overspent})")


def _orders() -> None:
    with op.batch_alter_table("wallet_orders") as table:
        table.add_column(sa.Column("hold_group", sa.String(80), nullable=True))
        table.add_column(sa.Column("ended", sa.Boolean(), nullable=False, server_default=sa.false()))
        for name in ("requested", "seen"):
            table.add_column(sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
        for name in ("extra", "price", "remaining"):
            table.add_column(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
        table.create_check_constraint("seen_was_requested", "seen >= 0 AND seen <= requested")
    shared = sa.text("hold_group IS NOT NULL")
    op.create_index(
        "ix_wallet_orders_hold_group",
        "wallet_orders",
        ["hold_group"],
        postgresql_where=shared,
        sqlite_where=shared,
    )


def downgrade() -> None:
    op.drop_table("wallet_identities")
    op.drop_table("wallet_loans")
    op.drop_index("ix_ledger_accounts_loans", "ledger_accounts")
    _kinds(overdrawn="'custody', 'losses', 'suspense'", overspent="'custody', 'losses'")
    op.drop_index("ix_wallet_orders_hold_group", "wallet_orders")
    with op.batch_alter_table("wallet_orders") as table:
        table.drop_constraint("seen_was_requested", type_="check")
        for name in ("remaining", "price", "extra", "seen", "requested", "ended", "hold_group"):
            table.drop_column(name)
    for name, columns in _FOREIGN_KEYS.items():
        with op.batch_alter_table(name) as batch:
            for column, target in columns.items():
                batch.create_foreign_key(f"fk_{name}_{column}", target, [column], ["id"])
    op.create_index("ix_outbox_shard_id", "outbox", ["shard", "id"])
