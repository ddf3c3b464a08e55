"""Clusters are shared: with whom stands in their record, and what others connect with beside their credentials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column, empty, and the table."""
    op.add_column("clusters", sa.Column("sharing", sa.JSON))
    op.create_table(
        "client_pairs",
        sa.Column("cluster", sa.Text, nullable=False),
        sa.Column("serial", sa.Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("cluster", "serial", name="pk_client_pairs"),
        sa.ForeignKeyConstraint(["cluster"], ["clusters.name"], "fk_client_pairs_cluster", ondelete="CASCADE"),
    )
