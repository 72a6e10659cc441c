"""Limits, kill switches, margin calls and their audit"""

import sqlalchemy as sa
from alembic import op

revision = "0007_risk"
down_revision = "0006_portfolio"
branch_labels = None
depends_on = None

_TABLES = (
    "risk_version",
    "risk_limits",
    "risk_switches",
    "risk_audit",
    "risk_positions",
    "risk_prices",
    "risk_alerts",
    "risk_margin_calls",
    "risk_closing_steps",
)
_OWNER = sa.String(80)
_SYMBOL = sa.String(20)
_LIVE = sa.text("state IN ('called', 'cancelling', 'selling')")


def _identity() -> sa.types.TypeEngine[int]:
    """SQLite counts rows up only in a column that is exactly INTEGER."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _big(*names: str, nullable: bool = False) -> "list[sa.Column[int]]":
    return [sa.Column(name, sa.BigInteger(), nullable=nullable) for name in names]


def _int(*names: str, nullable: bool = False) -> "list[sa.Column[int]]":
    return [sa.Column(name, sa.Integer(), nullable=nullable) for name in names]


def _text(name: str, length: int) -> "sa.Column[str]":
    return sa.Column(name, sa.String(length), nullable=False)


def upgrade() -> None:
    _limits()
    _positions()
    _margin()


def _limits() -> None:
    op.create_table(
        "risk_version",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        *_big("version"),
    )
    op.create_table(
        "risk_limits",
        sa.Column("owner", _OWNER, primary_key=True),
        sa.Column("symbol", _SYMBOL, primary_key=True),
        *_big("position", "order_notional", "open_notional", nullable=True),
        *_int("collar_bps", "order_rate", "order_burst", nullable=True),
        *_big("daily_loss", nullable=True),
    )
    op.create_table(
        "risk_switches",
        sa.Column("scope", sa.String(8), primary_key=True),
        sa.Column("name", _OWNER, primary_key=True),
        _text("reason", 200),
        _text("actor", 80),
        *_big("since"),
    )
    op.create_table(
        "risk_audit",
        sa.Column("id", _identity(), primary_key=True, autoincrement=True),
        *_big("at"),
        _text("actor", 80),
        _text("subject", 120),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        _text("reason", 200),
    )
    op.create_index("ix_risk_audit_subject", "risk_audit", ["subject"])


def _positions() -> None:
    op.create_table(
        "risk_positions",
        sa.Column("owner", _OWNER, primary_key=True),
        sa.Column("symbol", _SYMBOL, primary_key=True),
        *_big("lots"),
        *_int("day"),
        *_big("start"),
        _text("cash", 60),
    )
    op.create_table(
        "risk_prices",
        sa.Column("symbol", _SYMBOL, primary_key=True),
        *_big("last"),
        *_int("day"),
        *_big("open"),
    )
    op.create_table(
        "risk_alerts",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("owner", _OWNER, primary_key=True),
        sa.Column("subject", sa.String(40), primary_key=True),
        *_big("at"),
    )


def _margin() -> None:
    op.create_table(
        "risk_margin_calls",
        sa.Column("id", _identity(), primary_key=True, autoincrement=True),
        _text("owner", 80),
        _text("state", 12),
        *_int("step"),
        *_big("deadline", "equity", "debt", "required", "opened_at", "changed_at"),
        sa.CheckConstraint("step >= 0", "steps"),
    )
    op.create_index(
        "ix_risk_margin_calls_live",
        "risk_margin_calls",
        ["owner"],
        unique=True,
        postgresql_where=_LIVE,
        sqlite_where=_LIVE,
    )
    op.create_index("ix_risk_margin_calls_owner_id", "risk_margin_calls", ["owner", "id"])
    op.create_table(
        "risk_closing_steps",
        sa.Column("call_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("step", sa.Integer(), primary_key=True, autoincrement=False),
        _text("kind", 8),
        _text("state", 8),
        _text("symbol", 20),
        _text("side", 4),
        *_big("quantity", "order_id", "filled"),
        _text("reason", 60),
        *_big("at"),
    )


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(table)
