"""Alembic's entry: runs on the connection that `app.kit.schema` passes in."""

from alembic import context

from app.kit.database import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=Base.metadata, render_as_batch=connection.dialect.name == "sqlite"
)
with context.begin_transaction():
    context.run_migrations()
