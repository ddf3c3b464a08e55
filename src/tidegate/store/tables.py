"""The tables, as this version of Tidegate reads and writes them.

How to think about it
---------------------
* What is asked for by value (owner, state, times) is a column; what is only carried (the spec, the options, reasons) is
  one JSON column each. A field that is added inside a JSON column needs a migration too, if only an empty one:
  the new revision is what makes an older version refuse the database instead of stumbling over the field.
* Nothing here is a secret in the clear: ``sealed`` columns are encrypted (``sealing.py``), tokens are SHA-256
  hashes. A plain hash will do, because those tokens are random and long; passwords would need a slow one.
* ``worker_groups`` and ``workers`` keep the order of the record by their ascending ``id``.
* A row that belongs to a cluster goes with it (``ON DELETE CASCADE``).
* ``holdings`` and ``cluster_groups`` count the clusters that have not ended, for the limits (``ledger.py``).
* ``changes`` is one row: the number of the latest change of any cluster, counted in the transaction that makes it, and
  how far history has been pruned. ``clusters.change`` is the number under which a record was written last.

``migrations/`` builds the same tables step by step; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    # Constraints have names, so that a later migration can speak of them on either database.
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BigId = BigInteger().with_variant(Integer, "sqlite")
"""64 bits on both databases: SQLite numbers rows by itself only for a column of exactly the type INTEGER."""

Document = JSON(none_as_null=True)


def _of_cluster(*, primary_key: bool = False) -> Column[str]:
    """Return the column that ties a row to its cluster."""
    return Column("cluster", ForeignKey("clusters.name", ondelete="CASCADE"), primary_key=primary_key, nullable=False)


clusters = Table(
    "clusters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("spec", Document, nullable=False),
    Column("options", Document, nullable=False),
    Column("state", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("stopped_at", Double),
    Column("changed_at", Double, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("reason", Document),
    Column("host", Text),
    Column("scheduler", Document),
    Column("revision", BigInteger, nullable=False),
    Column("change", BigInteger, nullable=False, server_default="0"),
    Column("sharing", Document),
    Column("alias", Text),
    Column("labels", Document),
    Column("owner_groups", Document),
    Column("waiting", Document),
    Column("prices", Document),
    # Until when what ran is in the table `usage`.
    Column("metered_at", Double),
    Column("activity", Document),
    Index(None, "state"),
    Index(None, "change"),
    Index(None, "created_at", "name"),
    Index(None, "owner", "created_at", "name"),
    Index(None, "owner", "alias"),
)

worker_groups = Table(
    "worker_groups",
    metadata,
    Column("id", BigId, primary_key=True),
    _of_cluster(),
    Column("name", Text, nullable=False),
    Column("wanted", BigInteger, nullable=False),
    Column("adaptive", Document),
    Column("launched", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("retry_at", Double, nullable=False),
    Column("trouble", Document),
    Column("asked", BigInteger),
    UniqueConstraint("cluster", "name"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", BigId, primary_key=True),
    _of_cluster(),
    Column("name", Text, nullable=False),
    Column("worker_group", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("reason", Document),
    Column("started_at", Double),
    UniqueConstraint("cluster", "name"),
)

credentials = Table(
    "credentials",
    metadata,
    _of_cluster(primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("agent_token_hash", Text, nullable=False, unique=True),
)

client_pairs = Table(
    "client_pairs",
    metadata,
    _of_cluster(primary_key=True),
    Column("serial", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("at", Double, nullable=False),
    _of_cluster(),
    Column("owner", Text, nullable=False),
    Column("kind", Text, nullable=False),
    # Message and data are one document: a log's tail may hold bytes that a text column refuses, JSON escapes them.
    Column("body", Document, nullable=False),
    Index(None, "cluster", "id"),
    Index(None, "owner", "id"),
    sqlite_autoincrement=True,  # else SQLite gives the number of a deleted last event to the next one
)

changes = Table(
    "changes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("latest", BigInteger, nullable=False),
    Column("pruned_before", Double, nullable=False),
)

holdings = Table(
    "holdings",
    metadata,
    _of_cluster(primary_key=True),
    Column("owner", Text, nullable=False),
    # 1, or 0 for one that waits to be let in.
    Column("clusters", BigInteger, nullable=False),
    Column("workers", BigInteger, nullable=False),
    Column("cores", Double, nullable=False),
    # A million workers of a terabyte are more than 64 bits hold as a whole number.
    Column("memory", Double, nullable=False),
    Column("gpus", BigInteger, nullable=False),
    # At which limit it waits, if it does.
    Column("waits_for", Text),
    Index(None, "owner"),
)

cluster_groups = Table(
    "cluster_groups",
    metadata,
    _of_cluster(primary_key=True),
    Column("name", Text, primary_key=True),
    Index(None, "name"),
)

limits = Table(
    "limits",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("resource", Text, primary_key=True),
    # None is no limit.
    Column("amount", Double),
    Column("set_by", Text, nullable=False),
    Column("set_at", Double),
)

usage = Table(
    "usage",
    metadata,
    # A name, not a reference: what a cluster used is kept longer than the cluster.
    Column("cluster", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True),
    Column("owner", Text, nullable=False),
    # One text for each set of groups, by which rows can be added up.
    Column("owner_groups", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("core_seconds", Double, nullable=False),
    Column("gib_seconds", Double, nullable=False),
    Column("gpu_seconds", Double, nullable=False),
    Column("cost", Double, nullable=False),
    Index(None, "day"),
    Index(None, "owner", "day"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _of_cluster(),
    Index(None, "cluster"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret_hash", Text, nullable=False, unique=True),
    Column("principal", Text, nullable=False),
    Column("principal_groups", Document, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("method", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("scope", Text, nullable=False, server_default="full"),
    Column("used_at", Double),
    Index(None, "principal"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("at", Double, nullable=False),
    Column("deed", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("token", Text, nullable=False),
    # A name, not a reference: what was done to a cluster is kept longer than the cluster.
    Column("cluster", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("times", BigInteger, nullable=False),
    Index(None, "at"),
    Index(None, "principal", "id"),
    Index(None, "actor", "id"),
    Index(None, "cluster", "id"),
    sqlite_autoincrement=True,  # as for events: whoever follows the log goes by its numbers
)
