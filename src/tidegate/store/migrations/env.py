"""Run by Alembic for each upgrade, on the connection and in the transaction that ``schema.py`` hands over."""

from __future__ import annotations

from alembic import context

from tidegate.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
