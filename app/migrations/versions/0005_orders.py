"""Orders and fills"""

import sqlalchemy as sa
from alembic import op

revision = "0005_orders"
down_revision = "0004_matching"
branch_labels = None
depends_on = None


def _big(*names: str) -> "list[sa.Column[int]]":
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _text(name: str, length: int) -> "sa.Column[str]":
    return sa.Column(name, sa.String(length), nullable=False)


def _key(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), primary_key=True, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "orders",
        _key("order_id"),
        _text("owner", 80),
        _text("client_order_id", 64),
        _text("symbol", 20),
        _text("side", 4),
        _text("order_type", 20),
        _text("time_in_force", 3),
        *_big("quantity", "price", "stop_price"),
        *_big("placed_quantity", "placed_price", "placed_stop_price", "expires_at"),
        _text("self_trade_prevention", 12),
        sa.Column("post_only", sa.Boolean(), nullable=False),
        _text("origin", 12),
        sa.Column("group", sa.BigInteger(), nullable=True),
        _text("status", 16),
        *_big("filled", "remaining", "cost"),
        _text("reason", 60),
        _text("answer_status", 16),
        *_big("answer_filled"),
        _text("answer_reason", 60),
        *_big("created_at", "changed_at"),
        sa.UniqueConstraint("owner", "client_order_id"),
        sa.CheckConstraint("quantity >= 0 AND filled >= 0 AND remaining >= 0 AND cost >= 0", "amounts"),
    )
    op.create_index("ix_orders_owner_order_id", "orders", ["owner", "order_id"])
    is_open = sa.text("status IN ('pending', 'open', 'waiting', 'partially_filled')")
    op.create_index(
        "ix_orders_open", "orders", ["owner", "order_id"], postgresql_where=is_open, sqlite_where=is_open
    )
    is_pair = sa.text('"group" IS NOT NULL')
    op.create_index("ix_orders_group", "orders", ["group"], postgresql_where=is_pair, sqlite_where=is_pair)
    op.create_table(
        "fills",
        _key("order_id"),
        _key("trade_id"),
        _text("owner", 80),
        _text("symbol", 20),
        _text("side", 4),
        *_big("price", "quantity"),
        sa.Column("maker", sa.Boolean(), nullable=False),
        *_big("at"),
        sa.CheckConstraint("price > 0 AND quantity > 0", "amounts"),
    )
    op.create_index("ix_fills_owner_at", "fills", ["owner", "at", "order_id", "trade_id"])


def downgrade() -> None:
    op.drop_table("fills")
    op.drop_table("orders")
