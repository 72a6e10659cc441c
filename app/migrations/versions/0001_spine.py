"""Outbox, inbox, instruments and candles"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _identity() -> sa.types.TypeEngine[int]:
    """SQLite counts rows up only in a column that is exactly INTEGER."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    op.create_table(
        "outbox",
        sa.Column("id", _identity(), primary_key=True, autoincrement=True),
        sa.Column("topic", sa.String(120), nullable=False),
        sa.Column("key", sa.String(120), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
    )
    op.create_index("ix_outbox_shard_id", "outbox", ["shard", "id"])
    op.create_table(
        "consumed_events",
        sa.Column("consumer", sa.String(80), primary_key=True),
        sa.Column("event_id", sa.String(120), primary_key=True),
        sa.Column("consumed_at", sa.Double(), nullable=False),
    )
    op.create_index("ix_consumed_events_consumed_at", "consumed_events", ["consumed_at"])
    op.create_table(
        "instruments",
        sa.Column("symbol", sa.String(20), primary_key=True),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("asset_class", sa.String(20), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("tick_size", sa.String(20), nullable=False),
        sa.Column("lot_size", sa.String(20), nullable=False),
        sa.Column("calendar", sa.String(20), nullable=False),
    )
    op.create_table(
        "candle_progress",
        sa.Column("symbol", sa.String(20), primary_key=True),
        sa.Column("epoch", sa.String(40), primary_key=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "candles",
        sa.Column("symbol", sa.String(20), primary_key=True),
        sa.Column("start", sa.BigInteger(), primary_key=True),
        sa.Column("open", sa.BigInteger(), nullable=False),
        sa.Column("high", sa.BigInteger(), nullable=False),
        sa.Column("low", sa.BigInteger(), nullable=False),
        sa.Column("close", sa.BigInteger(), nullable=False),
        sa.Column("volume", sa.BigInteger(), nullable=False),
        sa.Column("trades", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        postgresql_partition_by="RANGE (start)",
    )
    if postgresql:
        op.execute("CREATE INDEX ix_candles_start_brin ON candles USING brin (start)")


def downgrade() -> None:
    for table in ("candles", "candle_progress", "instruments", "consumed_events", "outbox"):
        op.drop_table(table)
