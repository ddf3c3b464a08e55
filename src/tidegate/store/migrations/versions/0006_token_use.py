"""Tokens have a day of their last use. Of those that there are it is not known yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column, empty."""
    op.add_column("tokens", sa.Column("used_at", sa.Double))
