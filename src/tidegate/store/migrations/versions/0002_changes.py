"""Changes are numbered, so that whoever holds clusters in memory can ask for what is new."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the counter, at 0, and give every cluster that number."""
    changes = op.create_table(
        "changes",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("latest", sa.BigInteger, nullable=False),
        sa.Column("pruned_before", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
    )
    op.bulk_insert(changes, [{"id": 1, "latest": 0, "pruned_before": 0.0}])
    op.add_column("clusters", sa.Column("change", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("ix_clusters_change", "clusters", ["change"])
