"""Alembic's entry: runs on the connection that `app.kit.schema` passes in."""

from importlib import import_module
from pathlib import Path

from alembic import context

import app
from app.kit.database import Base

# Every domain's tables, whichever role runs the migrations.
_root = Path(app.__file__).parent
for _path in sorted(_root.rglob("models.py")):
    import_module(".".join(("app", *_path.relative_to(_root).with_suffix("").parts)))

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=Base.metadata, render_as_batch=connection.dialect.name == "sqlite"
)
with context.begin_transaction():
    context.run_migrations()
