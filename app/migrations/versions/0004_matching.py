"""Leases, journal and snapshots of the matching engine"""

import sqlalchemy as sa
from alembic import op

revision = "0004_matching"
down_revision = "0003_auth"
branch_labels = None
depends_on = None

_TABLES = (
    "leases",
    "matching_journal",
    "matching_snapshots",
    "trading_accounts",
    "matching_progress",
    "dead_man_switches",
)


def _big(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _number(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), primary_key=True, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("holder", sa.String(80), nullable=False),
        sa.Column("address", sa.String(200), nullable=False),
        sa.Column("token", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        _big("expires_at"),
    )
    op.create_table(
        "matching_journal",
        _number("batch"),
        _big("token"),
        _big("at"),
        sa.Column("commands", sa.Integer(), nullable=False),
        sa.Column("records", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "matching_snapshots",
        _number("batch"),
        _big("at"),
        sa.Column("sequences", sa.Text(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "trading_accounts",
        _number("number"),
        sa.Column("owner", sa.String(80), nullable=False, unique=True),
    )
    op.create_table(
        "matching_progress",
        sa.Column("name", sa.String(20), primary_key=True),
        _big("batch"),
    )
    op.create_table(
        "dead_man_switches",
        sa.Column("owner", sa.String(80), primary_key=True),
        _big("deadline_ms"),
    )


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(table)
