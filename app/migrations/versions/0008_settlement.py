"""Settlement of matched orders and margin loans"""

import sqlalchemy as sa
from alembic import op

revision = "0008_settlement"
down_revision = "0007_risk"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _orders()


def _orders() -> None:
    zero = {"nullable": False, "server_default": "0"}
    with op.batch_alter_table("wallet_orders") as table:
        table.add_column(sa.Column("hold_group", sa.String(80), nullable=True))
        table.add_column(sa.Column("ended", sa.Boolean(), nullable=False, server_default=sa.false()))
        for name in ("requested", "seen"):
            table.add_column(sa.Column(name, sa.Integer(), **zero))
        for name in ("extra", "price", "remaining"):
            table.add_column(sa.Column(name, sa.BigInteger(), **zero))
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
    op.drop_index("ix_wallet_orders_hold_group", "wallet_orders")
    with op.batch_alter_table("wallet_orders") as table:
        table.drop_constraint("seen_was_requested", type_="check")
        for name in ("remaining", "price", "extra", "seen", "requested", "ended", "hold_group"):
            table.drop_column(name)
