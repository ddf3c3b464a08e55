"""The schema at start: built, compared, upgraded with a copy, or refused."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, NullPool
from sqlalchemy.exc import OperationalError

from tidegate.store import schema
from tidegate.store.base import StoreUnusable
from tidegate.store.engine import make_engine
from tidegate.store.schema import REVISION, bring_up_to_date
from tidegate.store.tables import metadata

NOW = 1_700_000_000.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the database is to be."""
    return tmp_path / "tidegate.sqlite"


def upgrade(file: Path) -> None:
    """Bring the database up to date, as a start does."""
    bring_up_to_date(URL.create("sqlite", database=str(file)), busy_timeout=1, now=NOW)


def run(file: Path, *statements: str) -> list[tuple[object, ...]]:
    """Run SQL on the database; return the rows of the last statement."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


def test_migrations_build_what_the_tables_say(file: Path):
    """A migrated database and ``tables.py`` do not differ for Alembic, column types included."""
    upgrade(file)

    engine = make_engine(URL.create("sqlite", database=str(file)), busy_timeout=1, connections=1, poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_migrations_build_what_alembic_does_not_compare(file: Path, tmp_path: Path):
    """Keys, cascades and AUTOINCREMENT are the same whether migrated or created from ``tables.py``."""
    upgrade(file)
    engine = make_engine(
        URL.create("sqlite", database=str(tmp_path / "direct.sqlite")),
        busy_timeout=1,
        connections=1,
        poolclass=NullPool,
    )
    metadata.create_all(engine)

    def facts(database: Path) -> dict[str, object]:
        return {
            table: (
                run(database, f"PRAGMA table_info({table})"),
                sorted(row[2:] for row in run(database, f"PRAGMA foreign_key_list({table})")),
                "AUTOINCREMENT" in run(database, f"SELECT sql FROM sqlite_master WHERE name = '{table}'")[0][0],
            )
            for table in metadata.tables
        }

    assert facts(file) == facts(tmp_path / "direct.sqlite")


def test_the_revision_of_this_version_is_the_newest_step():
    """``REVISION`` is not forgotten when a step is added."""
    assert ScriptDirectory(Path(schema.__file__).with_name("migrations")).get_heads() == [REVISION]


def test_a_second_start_changes_nothing(file: Path):
    """A database that is up to date is neither copied nor touched."""
    upgrade(file)
    before = file.read_bytes()

    upgrade(file)

    assert file.read_bytes() == before
    assert list(file.parent.glob("*before*")) == []


def test_a_newer_database_is_refused(file: Path):
    """What a newer version wrote is left alone, and both schemas are named."""
    upgrade(file)
    run(file, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(StoreUnusable, match=rf"{file}.*newer version.*schema 9999.*up to {REVISION}"):
        upgrade(file)

    assert list(file.parent.glob("*before*")) == []


def test_a_foreign_database_is_refused(file: Path):
    """A database with somebody else's tables is not ours to migrate."""
    run(file, "CREATE TABLE invoices (id INTEGER)")

    with pytest.raises(StoreUnusable, match=r"holds tables \(invoices\) that are not Tidegate's"):
        upgrade(file)

    assert run(file, "SELECT name FROM sqlite_master") == [("invoices",)]


# -- upgrades --------------------------------------------------------------------------------------------------------

CLUSTER = """
INSERT INTO clusters (name, owner, backend, spec, options, state, target, created_at, changed_at, attempt, revision)
VALUES ('c1', 'alice', 'local', '{}', '{}', 'running', 'running', 1, 1, 1, 1)
"""
WORKER = "INSERT INTO workers (cluster, name, worker_group, state, changed_at) VALUES ('c1', 'w1', 'g', 'running', 1)"

NEXT = f"{int(REVISION) + 1:04}"
"""The revision of the version after this one."""

NEXT_STEP = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{next}", "{this}"
def upgrade():
    with op.batch_alter_table("clusters", recreate="always") as table:
        table.add_column(sa.Column("note", sa.Text))
    {then}
"""


@pytest.fixture
def older(file: Path) -> Path:
    """A database of this version, with a cluster that has a worker, as the next version will find it."""
    upgrade(file)
    run(file, CLUSTER, WORKER)
    return file


def upgrade_to_next(file: Path, *, then: str = "pass") -> None:
    """Bring the database up to date as the next version would, whose step rebuilds the table of clusters."""
    migrations = file.parent / "migrations"
    shutil.copytree(Path(schema.__file__).with_name("migrations"), migrations)
    step = NEXT_STEP.format(next=NEXT, this=REVISION, then=then)
    (migrations / "versions" / f"{NEXT}_next.py").write_text(step)
    url = URL.create("sqlite", database=str(file))
    bring_up_to_date(url, busy_timeout=1, now=NOW, revision=NEXT, migrations=str(migrations))


def test_an_upgrade_leaves_a_copy_of_what_was_before(older: Path):
    """Beside the upgraded database lies a whole copy of the old one, for nobody else to read."""
    upgrade_to_next(older)

    (copy,) = older.parent.glob("*before*")
    assert copy.name == f"tidegate.sqlite.before-{NEXT}-20231114T221320Z"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert run(copy, "SELECT version_num FROM alembic_version") == [(REVISION,)]
    assert run(copy, "SELECT name FROM workers") == [("w1",)]
    assert run(older, "SELECT version_num FROM alembic_version") == [(NEXT,)]


def test_a_rebuilt_table_keeps_what_belongs_to_it(older: Path):
    """Dropping the old table of clusters in a step does not cascade to their workers."""
    upgrade_to_next(older)

    assert run(
        older, "SELECT clusters.name, note, workers.name FROM clusters JOIN workers ON cluster = clusters.name"
    ) == [("c1", None, "w1")]


@pytest.mark.parametrize(
    ("then", "error"),
    [
        ("op.execute('DELETE FROM clusters')", StoreUnusable),
        ("op.execute('DROP TABLE nonsense')", OperationalError),
    ],
    ids=["loose ends", "broken"],
)
def test_a_failed_upgrade_changes_nothing(older: Path, then: str, error: type[Exception]):
    """A step that breaks, or leaves workers without their cluster, is undone as a whole."""
    before = run(older, "SELECT sql FROM sqlite_master")

    with pytest.raises(error):
        upgrade_to_next(older, then=then)

    assert run(older, "SELECT sql FROM sqlite_master") == before
    assert run(older, "SELECT name FROM clusters") == [("c1",)]
    assert run(older, "SELECT version_num FROM alembic_version") == [(REVISION,)]


def test_without_room_for_the_copy_there_is_no_upgrade(older: Path):
    """When the copy cannot be laid, the database stays as it is, and nothing half written remains."""
    (older.parent / f"tidegate.sqlite.before-{NEXT}-20231114T221320Z").mkdir()

    with pytest.raises(StoreUnusable, match=r"cannot copy the database to .* nothing was changed"):
        upgrade_to_next(older)

    assert run(older, "SELECT version_num FROM alembic_version") == [(REVISION,)]
    assert list(older.parent.glob("*.partial*")) == []


def test_a_database_of_the_first_version_keeps_its_clusters(file: Path):
    """Clusters from before changes were numbered have the number 0, and counting begins there."""
    bring_up_to_date(URL.create("sqlite", database=str(file)), busy_timeout=1, now=NOW, revision="0001")
    run(file, CLUSTER)

    upgrade(file)

    assert run(file, "SELECT name, change FROM clusters") == [("c1", 0)]
    assert run(file, "SELECT latest, pruned_before FROM changes") == [(0, 0.0)]


def test_what_ran_before_the_limits_is_counted(file: Path):
    """Of each cluster that has not ended: in each group what is wanted or what is there, whichever is more."""
    bring_up_to_date(URL.create("sqlite", database=str(file)), busy_timeout=1, now=NOW, revision="0005")
    cluster, spec = "INSERT INTO clusters SELECT {} FROM clusters", '{"worker_cores": 2.5, "worker_memory": 1000}'
    columns = [row[1] for row in run(file, "PRAGMA table_info(clusters)")]
    columns_of_group = "(cluster, name, wanted, launched, failures, retry_at)"
    group = f"INSERT INTO worker_groups {columns_of_group} VALUES ('c1', '{{}}', {{}}, 0, 0, 0)"
    ending = {"name": "'c2'", "target": "'stopped'", "owner": "'bob'"}
    ended = {"name": "'c3'", "state": "'failed'"}
    run(
        file,
        CLUSTER.replace("'{}', '{}'", f"'{spec}', '{{}}'"),
        *(cluster.format(", ".join(other.get(c, c) for c in columns)) + " LIMIT 1" for other in (ending, ended)),
        group.format("g", 1),
        group.format("more", 3),
        group.format("more", 9).replace("'c1'", "'c2'"),
        WORKER,
        WORKER.replace("'w1'", "'w2'").replace("'running'", "'stopping'"),
        WORKER.replace("'w1'", "'w3'").replace("'running'", "'ended'"),
        WORKER.replace("'c1'", "'c2'"),
    )

    upgrade(file)

    held = run(file, "SELECT cluster, owner, workers, cores, memory, gpus FROM holdings ORDER BY cluster")
    assert held == [("c1", "alice", 5, 12.5, 5000.0, 0), ("c2", "bob", 1, 2.5, 1000.0, 0)]
