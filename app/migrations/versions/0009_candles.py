"""Candles of hours and days; history in hypertables where the database has TimescaleDB

Without the extension the tables of minutes and hours are partitioned by month, as that of minutes was. With
it they become hypertables: it is used when it is in the database, or is installed on the server and this user
may create it.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import DBAPIError

revision = "0009_candles"
down_revision = "0008_settlement"
branch_labels = None
depends_on = None

_CHUNK = 2_592_000
"""Seconds of a chunk: 30 days."""
_COLUMNS = "symbol, start, open, high, low, close, volume, trades, closed"


def _columns() -> list[sa.Column[Any]]:
    numbers = ("open", "high", "low", "close", "volume", "trades")
    return [
        sa.Column("symbol", sa.String(20), primary_key=True),
        sa.Column("start", sa.BigInteger(), primary_key=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in numbers),
        sa.Column("closed", sa.Boolean(), nullable=False),
    ]


def upgrade() -> None:
    connection = op.get_bind()
    postgresql = connection.dialect.name == "postgresql"
    op.create_table("candle_hours", *_columns(), postgresql_partition_by="RANGE (start)")
    op.create_table("candle_days", *_columns())
    op.create_table(
        "candle_places",
        sa.Column("symbol", sa.String(20), primary_key=True),
        sa.Column("epoch", sa.String(40), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
    )
    if postgresql:
        _make_partitions("candle_hours", _months("candles"))
        op.execute("CREATE INDEX ix_candle_hours_start_brin ON candle_hours USING brin (start)")
    op.execute(roll_up("candles", "candle_hours", 3600))
    op.execute(roll_up("candle_hours", "candle_days", 86400))
    if postgresql and _has_timescale(connection):
        for table in ("candles", "candle_hours"):
            for statement in to_hypertable(table):
                op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql" and _kind("candles") != "p":
        months = _months("candles")
        first, *rest = to_partitions("candles")
        op.execute(first)
        op.execute(rest[0])
        _make_partitions("candles", months)
        for statement in rest[1:]:
            op.execute(statement)
    for table in ("candle_places", "candle_days", "candle_hours"):
        op.drop_table(table)


def roll_up(source: str, target: str, seconds: int) -> str:
    """Statement that fills `target` with candles of `seconds` made of those in `source`."""
    return f"""
        INSERT INTO {target} ({_COLUMNS})
        SELECT made.symbol, made.bucket, begun.open, made.high, made.low, ended.close,
               made.volume, made.trades, ended.closed
        FROM (
            SELECT symbol, start - start % {seconds} AS bucket, min(start) AS begun, max(start) AS ended,
                   max(high) AS high, min(low) AS low, sum(volume) AS volume, sum(trades) AS trades
            FROM {source} GROUP BY symbol, start - start % {seconds}
        ) AS made
        JOIN {source} AS begun ON begun.symbol = made.symbol AND begun.start = made.begun
        JOIN {source} AS ended ON ended.symbol = made.symbol AND ended.start = made.ended
    """  # noqa: S608 - names of tables, written here


def choose(available: tuple[str | None] | None) -> str:
    """What to do about TimescaleDB: `use`, `create` or `none`.

    `available` is its row in `pg_available_extensions` (the installed version), None without one.
    """
    if available is None:
        return "none"
    return "create" if available[0] is None else "use"


def _has_timescale(connection: sa.Connection) -> bool:
    """Whether the extension is in the database, now."""
    found = connection.execute(
        sa.text("SELECT installed_version FROM pg_available_extensions WHERE name = 'timescaledb'")
    ).one_or_none()
    choice = choose(None if found is None else (found[0],))
    if choice != "create":
        return choice == "use"
    try:
        with connection.begin_nested():
            connection.execute(sa.text("CREATE EXTENSION timescaledb"))
    except DBAPIError:
        return False  # it is not preloaded, or this user may not: partitions serve as well
    return True


def to_hypertable(table: str) -> list[str]:
    """Statements that make a hypertable, with its rows, of a table that is partitioned by `start`."""
    return [
        f"ALTER TABLE {table} RENAME TO {table}_before",
        f"CREATE TABLE {table} (LIKE {table}_before INCLUDING DEFAULTS)",
        f"INSERT INTO {table} SELECT * FROM {table}_before",  # noqa: S608 - names of tables
        f"DROP TABLE {table}_before",
        f"ALTER TABLE {table} ADD PRIMARY KEY (symbol, start)",
        f"SELECT create_hypertable('{table}', 'start', chunk_time_interval => CAST({_CHUNK} AS bigint), "
        "migrate_data => true, create_default_indexes => false)",
    ]


def to_partitions(table: str) -> list[str]:
    """The way back; the partitions have to be made behind the second statement."""
    return [
        f"ALTER TABLE {table} RENAME TO {table}_before",
        f"CREATE TABLE {table} (LIKE {table}_before INCLUDING DEFAULTS) PARTITION BY RANGE (start)",
        f"INSERT INTO {table} SELECT * FROM {table}_before",  # noqa: S608 - names of tables
        f"DROP TABLE {table}_before",
        f"ALTER TABLE {table} ADD PRIMARY KEY (symbol, start)",
        f"CREATE INDEX ix_{table}_start_brin ON {table} USING brin (start)",
    ]


def _kind(table: str) -> str:
    query = sa.text("SELECT relkind::text FROM pg_class WHERE oid = CAST(:table AS regclass)")
    return str(op.get_bind().scalar(query, {"table": table}))


def _months(table: str) -> list[tuple[int, int]]:
    """Year and month from the oldest candle to the newest."""
    bounds = sa.text(f"SELECT min(start), max(start) FROM {table}")  # noqa: S608 - a name written here
    oldest, newest = op.get_bind().execute(bounds).one()
    return [] if oldest is None else list(_between(oldest, newest))


def _between(oldest: int, newest: int) -> Iterator[tuple[int, int]]:
    first, last = (datetime.fromtimestamp(at, UTC) for at in (oldest, newest))
    for number in range(first.year * 12 + first.month - 1, last.year * 12 + last.month):
        yield number // 12, number % 12 + 1


def _make_partitions(table: str, months: Sequence[tuple[int, int]]) -> None:
    for year, month in months:
        begin = datetime(year, month, 1, tzinfo=UTC)
        end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        op.execute(
            f"CREATE TABLE {table}_{year}_{month:02} PARTITION OF {table} "
            f"FOR VALUES FROM ({int(begin.timestamp())}) TO ({int(end.timestamp())})"
        )
