"""Many rows in one parameter: a JSON document that the database reads as a table.

The text of a statement then does not depend on the number of rows: it is compiled and planned once.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    column,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import TypeEngine

from app.kit.database import Base, Database


def rows(
    database: Database, parameter: str = "rows", /, **columns: type[TypeEngine[Any]] | TypeEngine[Any]
) -> FromClause:
    """A table of these columns whose rows come as the parameter `rows`, made by `document`."""
    given = bindparam(parameter, type_=Text())
    if database.is_postgresql:
        wanted = [column(name, kind) for name, kind in columns.items()]
        return (
            func.json_to_recordset(cast(given, JSON))
            .table_valued(*wanted)
            .render_derived(name="given", with_types=True)
        )
    value = func.json_each(given).table_valued("value", name="each_row")
    parts = [
        func.json_extract(value.c.value, f"$.{name}", type_=_instance(kind)).label(name)
        for name, kind in columns.items()
    ]
    return select(*parts).subquery("given")


def per_row(
    database: Database,
    given: FromClause,
    chosen: Select[*tuple[Any, ...]],
    keys: Mapping[str, ColumnElement[Any] | InstrumentedAttribute[Any]],
    *,
    lock: bool = False,
) -> Select[*tuple[Any, ...]]:
    """What `chosen` has for each row of `given`, at most one, looked up in an index.

    `keys` says which column of a table in `chosen` each column of `given` is equal to. With `lock` the rows
    are locked to the end of the transaction, one after the other in the order of those columns.

    PostgreSQL takes a plan that it made while a table was small for as long as its statistics stand: left to
    a join, it would go on reading the whole table while that grows.
    """
    if not database.is_postgresql:
        return chosen.join(given, and_(*(column == given.c[name] for name, column in keys.items())))
    if lock:
        given = select(*given.c).order_by(*(given.c[name] for name in keys)).offset(0).subquery("ordered")
    one = chosen.where(*(column == given.c[name] for name, column in keys.items())).limit(1)
    found = (one.with_for_update(key_share=True) if lock else one).lateral("found")
    return select(*found.c).select_from(given.join(found, true()))


def insert_rows(
    database: Database, table: Table, names: Sequence[str], *, order: str, parameter: str = "rows"
) -> Any:
    """An INSERT of all given rows, in the order of one of their columns; it knows ON CONFLICT.

    A column `order` that the table has not is a whole number beside the columns of the table.
    """
    columns = {name: table.c[name].type for name in names}
    given = rows(database, parameter, **{order: BigInteger(), **columns})
    # Without a WHERE, SQLite takes ON CONFLICT for the condition of a join.
    chosen = select(*(given.c[name] for name in names)).where(given.c[order].is_not(None))
    return database.insert(table).from_select(list(names), chosen.order_by(given.c[order]))


def table_of(model: type[Base]) -> Table:
    """The table itself: the ORM would take an INSERT … SELECT for one of its own objects."""
    table = model.__table__
    assert isinstance(table, Table)  # noqa: S101 - a model has one table
    return table


def document(items: Iterable[object], parameter: str = "rows") -> dict[str, str]:
    """The parameters of a statement over `rows`; items are mappings or dataclasses."""
    return {parameter: orjson.dumps(list(items)).decode()}


def all_at_once(first: Any, *others: Any) -> Any:
    """One statement of PostgreSQL for several INSERTs, each with a `parameter` of its own.

    It answers with the number of rows that `first` inserted. All of them see the tables as they were before.
    """
    counted = first.returning(literal(1).label("one")).cte("counted")
    done = [statement.returning(literal(1)).cte(f"done_{n}") for n, statement in enumerate(others)]
    return select(func.count()).select_from(counted).add_cte(*done)


def _instance(kind: type[TypeEngine[Any]] | TypeEngine[Any]) -> TypeEngine[Any]:
    return kind() if isinstance(kind, type) else kind
