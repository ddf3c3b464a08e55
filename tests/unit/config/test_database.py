"""Where the database is: what may be written, and that no password in it is ever repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidegate.config.explain import explain
from tidegate.config.load import BadConfig, load
from tidegate.config.schema import Settings
from tidegate.server.database import PASSWORD_VARIABLE, check_database, database_url

URL = "postgresql://tidegate@db.example.org/tidegate"


def settings(**database: Any) -> Settings:
    """Return settings with this database."""
    return Settings.model_validate({"database": database})


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "postgres://db/tidegate",
        "postgresql://tide%40gate@[::1]:5433/tidegate?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql://tidegate@/tidegate?host=/run/postgresql",
    ],
)
def test_a_postgresql_is_named_without_a_password(url: str) -> None:
    """The driver is ours, whatever else there is in the URL stays, and the driver finds no password in it."""
    found = database_url(settings(url=url))

    assert found is not None
    assert found.drivername == "postgresql+psycopg"
    assert (found.password, found.database) == (None, "tidegate")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@db/x",
        "postgresql://u:hunter2/with:signs@db/x",
        "postgresql://u@db:5432/x?a=hunter2@b",
        "postgresql://u:12#hunter2@db/x",
        "postgresql://u@db/x?password=hunter2",
        "postgresql://u@db/x?sslmode=require&sslpassword=hunter2",
        "postgresql://u@db/x?pass%77ord=hunter2",
        "mysql://u:hunter2@db/x",
        "sqlite:////var/lib/hunter2",
        "postgresql://hunter2",
        "hunter2",
    ],
)
def test_what_else_stands_there_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    """It may hold a password, and the answer may end in a log."""
    file = tmp_path / "tidegate.yaml"
    file.write_text(f"address: 127.0.0.1:0\ndatabase:\n  url: '{url}'\n")

    with pytest.raises(BadConfig, match=r"tidegate.yaml:2: database: write url as postgresql://USER@HOST/") as error:
        load(file)
    assert "hunter2" not in error.value.message


def test_the_password_is_read_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the file, else from the environment; it is in no setting, and no ``repr`` shows it."""
    monkeypatch.setenv(PASSWORD_VARIABLE, "from-the-environment")
    (tmp_path / "password").write_text("hunter2/with:signs@\n")
    (tmp_path / "tidegate.yaml").write_text(f"database: {{url: '{URL}', password_file: password}}")
    loaded = load(tmp_path / "tidegate.yaml")

    found = database_url(loaded.settings)

    assert found is not None
    assert found.password == "hunter2/with:signs@"
    assert "hunter2" not in f"{found} {found!r} {loaded!r} {explain(loaded)}"
    alone = database_url(settings(url=URL))
    assert alone is not None
    assert alone.password == "from-the-environment"


def test_a_password_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """By the setting and the file, before anything is asked with an empty one."""
    (tmp_path / "empty").write_text("\n")

    for name, words in (("missing", "cannot read database.password_file"), ("empty", "it is empty")):
        with pytest.raises(BadConfig, match=words):
            database_url(settings(url=URL, password_file=tmp_path / name))


def test_a_password_for_no_url_is_a_mistake(tmp_path: Path) -> None:
    """Whoever gives one believes that a server is asked."""
    (tmp_path / "tidegate.yaml").write_text("database: {password_file: password}")

    with pytest.raises(BadConfig, match="password_file is given, and no url"):
        load(tmp_path / "tidegate.yaml")


def test_without_a_url_nobody_is_asked() -> None:
    """The records are in the data folder then."""
    assert database_url(Settings()) is None
    assert check_database(load()) is None
