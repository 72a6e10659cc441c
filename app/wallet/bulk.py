"""Many rows in one parameter: a JSON document that the database reads as a table.

The text of a statement then does not depend on the number of rows: it is compiled and planned once.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    ColumnElement,
    FromClause,
    Select,
    Text,
    bindparam,
    cast,
    column,
    func,
    select,
    true,
)
from sqlalchemy.types import TypeEngine

from app.kit.database import Database


def rows(database: Database, **columns: type[TypeEngine[Any]] | TypeEngine[Any]) -> FromClause:
    """A table of these columns whose rows come as the parameter `rows`, made by `document`."""
    given = bindparam("rows", type_=Text())
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
    database: Database, given: FromClause, chosen: Select[*tuple[Any, ...]], same: ColumnElement[bool]
) -> Select[*tuple[Any, ...]]:
    """What `chosen` has for each row of `given`, at most one, looked up in an index.

    PostgreSQL takes a plan that it made while a table was small for as long as its statistics stand: left to
    a join, it would go on reading the whole table while that grows.
    """
    if database.is_postgresql:
        found = chosen.where(same).limit(1).lateral("found")
        return select(*found.c).select_from(given.join(found, true()))
    return chosen.join(given, same)


def document(items: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """The parameters of a statement over `rows`."""
    return {"rows": orjson.dumps(list(items)).decode()}


def _instance(kind: type[TypeEngine[Any]] | TypeEngine[Any]) -> TypeEngine[Any]:
    return kind() if isinstance(kind, type) else kind
