"""Places in the matching stream; positions and their history"""

import sqlalchemy as sa
from alembic import op

revision = "0006_portfolio"
down_revision = "0005_orders"
branch_labels = None
depends_on = None

_TABLES = ("stream_positions", "portfolio_positions", "portfolio_entries", "portfolio_values")


def _big(*names: str) -> "list[sa.Column[int]]":
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _position() -> "list[sa.Column[str]]":
    return [
        sa.Column("owner", sa.String(80), primary_key=True),
        sa.Column("symbol", sa.String(20), primary_key=True),
    ]


def upgrade() -> None:
    op.create_table(
        "stream_positions",
        sa.Column("consumer", sa.String(80), primary_key=True),
        sa.Column("symbol", sa.String(20), primary_key=True),
        *_big("sequence", "seen"),
    )
    op.create_table(
        "portfolio_positions",
        *_position(),
        *_big("lots", "cost", "realised", "entries", "changed_at"),
    )
    op.create_table(
        "portfolio_entries",
        *_position(),
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        *_big("sequence", "at", "trade_id", "order_id"),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("liquidity", sa.String(5), nullable=False),
        *_big("price", "quantity", "lots", "cost", "realised", "gained"),
    )
    op.create_index("ix_portfolio_entries_at", "portfolio_entries", ["owner", "symbol", "at", "number"])
    op.create_table(
        "portfolio_values",
        sa.Column("owner", sa.String(80), primary_key=True),
        sa.Column("currency", sa.String(12), primary_key=True),
        sa.Column("kind", sa.String(5), primary_key=True),
        sa.Column("at", sa.BigInteger(), primary_key=True, autoincrement=False),
        *_big("cash", "holdings", "realised", "unrealised"),
    )
    op.create_index("ix_portfolio_values_kind_at", "portfolio_values", ["kind", "at"])


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(table)
