"""Places in the matching stream; positions and their history"""

import sqlalchemy as sa
from alembic import op

revision = "0006_portfolio"
down_revision = "0005_orders"
branch_labels = None
depends_on = None

_TABLES = ("stream_positions",)


def _big(*names: str) -> "list[sa.Column[int]]":
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "stream_positions",
        sa.Column("consumer", sa.String(80), primary_key=True),
        sa.Column("symbol", sa.String(20), primary_key=True),
        *_big("sequence", "seen"),
    )


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(table)
