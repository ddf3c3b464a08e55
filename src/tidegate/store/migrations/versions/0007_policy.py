"""What users may have, and when it ends: the policy that a cluster was made under stands in its record."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the columns, at what held before, and the tables."""
    _name_clusters()
    _count_holdings()
    _meter_usage()
    _note_activity()


def _name_clusters() -> None:
    op.add_column("clusters", sa.Column("alias", sa.Text))
    op.add_column("clusters", sa.Column("labels", sa.JSON))
    op.create_index("ix_clusters_owner_alias", "clusters", ["owner", "alias"])


def _count_holdings() -> None:
    op.add_column("clusters", sa.Column("owner_groups", sa.JSON))
    op.add_column("clusters", sa.Column("waiting", sa.JSON))
    op.add_column("worker_groups", sa.Column("asked", sa.BigInteger))
    op.create_table(
        "holdings",
        sa.Column("cluster", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("clusters", sa.BigInteger, nullable=False),
        sa.Column("workers", sa.BigInteger, nullable=False),
        sa.Column("cores", sa.Double, nullable=False),
        sa.Column("memory", sa.Double, nullable=False),
        sa.Column("gpus", sa.BigInteger, nullable=False),
        sa.Column("waits_for", sa.Text),
        sa.PrimaryKeyConstraint("cluster", name="pk_holdings"),
        sa.ForeignKeyConstraint(["cluster"], ["clusters.name"], "fk_holdings_cluster", ondelete="CASCADE"),
    )
    op.create_index("ix_holdings_owner", "holdings", ["owner"])
    op.create_table(
        "cluster_groups",
        sa.Column("cluster", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("cluster", "name", name="pk_cluster_groups"),
        sa.ForeignKeyConstraint(["cluster"], ["clusters.name"], "fk_cluster_groups_cluster", ondelete="CASCADE"),
    )
    op.create_index("ix_cluster_groups_name", "cluster_groups", ["name"])
    op.create_table(
        "limits",
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("amount", sa.Double),
        sa.Column("set_by", sa.Text, nullable=False),
        sa.Column("set_at", sa.Double),
        sa.PrimaryKeyConstraint("subject", "resource", name="pk_limits"),
    )
    _count_what_runs()


_clusters = sa.table("clusters", *map(sa.column, ("name", "owner", "state", "target")), sa.column("spec", sa.JSON))
_groups = sa.table("worker_groups", *map(sa.column, ("cluster", "name", "wanted")))
_workers = sa.table("workers", *map(sa.column, ("cluster", "worker_group", "state")))
_amounts = ("clusters", "workers", "cores", "memory", "gpus")
_holdings = sa.table("holdings", *map(sa.column, ("cluster", "owner", *_amounts)))


def _count_what_runs() -> None:
    """Count what the clusters hold that have not ended: in each group as many as are wanted, or as there are."""
    connection = op.get_bind()
    is_active = _clusters.c.state.not_in(("stopped", "failed"))
    for cluster in connection.execute(sa.select(_clusters).where(is_active)).all():
        there: dict[str, int] = {}
        not_ended = (_workers.c.cluster == cluster.name, _workers.c.state != "ended")
        for (group,) in connection.execute(sa.select(_workers.c.worker_group).where(*not_ended)):
            there[group] = there.get(group, 0) + 1
        if cluster.target == "running":
            for row in connection.execute(sa.select(_groups).where(_groups.c.cluster == cluster.name)):
                there[row.name] = max(row.wanted, there.get(row.name, 0))
        count, spec = sum(there.values()), cluster.spec
        connection.execute(
            sa.insert(_holdings).values(
                cluster=cluster.name,
                owner=cluster.owner,
                clusters=1,
                workers=count,
                cores=count * spec.get("worker_cores", 1),
                memory=count * spec.get("worker_memory", 2 * 2**30),
                gpus=0,
            )
        )


def _meter_usage() -> None:
    """Count what runs from the first change on; what ran before is not known to the second."""
    op.add_column("clusters", sa.Column("prices", sa.JSON))
    op.add_column("clusters", sa.Column("metered_at", sa.Double))
    op.add_column("workers", sa.Column("started_at", sa.Double))
    op.create_table(
        "usage",
        sa.Column("cluster", sa.Text, nullable=False),
        sa.Column("day", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("owner_groups", sa.Text, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("core_seconds", sa.Double, nullable=False),
        sa.Column("gib_seconds", sa.Double, nullable=False),
        sa.Column("gpu_seconds", sa.Double, nullable=False),
        sa.Column("cost", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("cluster", "day", name="pk_usage"),
    )
    op.create_index("ix_usage_day", "usage", ["day"])
    op.create_index("ix_usage_owner_day", "usage", ["owner", "day"])


def _note_activity() -> None:
    """Note what clusters end by; those that were made before there were such ends have none."""
    op.add_column("clusters", sa.Column("activity", sa.JSON))
