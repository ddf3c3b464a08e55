"""Tokens have a scope. Those that there are were made to do everything."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("tokens", sa.Column("scope", sa.Text, nullable=False, server_default="full"))
