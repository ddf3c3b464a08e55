"""The first schema: clusters with groups and workers, sealed credentials, events, idempotency keys, tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create every table."""
    _create_clusters()
    _create_groups_and_workers()
    _create_credentials()
    _create_events()
    _create_tokens()


def _create_clusters() -> None:
    op.create_table(
        "clusters",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("backend", sa.Text, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("stopped_at", sa.Double),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("attempt", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.JSON),
        sa.Column("host", sa.Text),
        sa.Column("scheduler", sa.JSON),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_clusters"),
    )
    op.create_index("ix_clusters_state", "clusters", ["state"])
    op.create_index("ix_clusters_created_at_name", "clusters", ["created_at", "name"])
    op.create_index("ix_clusters_owner_created_at_name", "clusters", ["owner", "created_at", "name"])


def _create_groups_and_workers() -> None:
    op.create_table(
        "worker_groups",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("cluster", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("wanted", sa.BigInteger, nullable=False),
        sa.Column("adaptive", sa.JSON),
        sa.Column("launched", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.BigInteger, nullable=False),
        sa.Column("retry_at", sa.Double, nullable=False),
        sa.Column("trouble", sa.JSON),
        sa.PrimaryKeyConstraint("id", name="pk_worker_groups"),
        _belongs_to_cluster("worker_groups"),
        sa.UniqueConstraint("cluster", "name", name="uq_worker_groups_cluster_name"),
    )
    op.create_table(
        "workers",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("cluster", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("worker_group", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("reason", sa.JSON),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
        _belongs_to_cluster("workers"),
        sa.UniqueConstraint("cluster", "name", name="uq_workers_cluster_name"),
    )


def _create_credentials() -> None:
    op.create_table(
        "credentials",
        sa.Column("cluster", sa.Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("agent_token_hash", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("cluster", name="pk_credentials"),
        _belongs_to_cluster("credentials"),
        sa.UniqueConstraint("agent_token_hash", name="uq_credentials_agent_token_hash"),
    )


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("cluster", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        _belongs_to_cluster("events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_cluster_id", "events", ["cluster", "id"])
    op.create_index("ix_events_owner_id", "events", ["owner", "id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("cluster", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_idempotency_keys"),
        _belongs_to_cluster("idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_cluster", "idempotency_keys", ["cluster"])


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("secret_hash", sa.Text, nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("principal_groups", sa.JSON, nullable=False),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("secret_hash", name="uq_tokens_secret_hash"),
    )
    op.create_index("ix_tokens_principal", "tokens", ["principal"])


def _belongs_to_cluster(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["cluster"], ["clusters.name"], f"fk_{table}_cluster", ondelete="CASCADE")
