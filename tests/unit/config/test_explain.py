"""What is printed about settings is complete, true, and can be used as a file."""

from __future__ import annotations

from pathlib import Path

from tidegate.backends.local.settings import LocalSettings
from tidegate.config.explain import entries, explain, reference
from tidegate.config.load import load


def test_every_setting_has_a_docstring() -> None:
    """A setting that nobody explained cannot be added."""
    assert [".".join(map(str, e.location)) for e in entries() if not e.doc] == []


def test_the_explanation_can_be_used_as_a_file(tmp_path: Path) -> None:
    """Reading it back gives the same settings."""
    path = tmp_path / "tidegate.yaml"
    path.write_text(
        "prefix: /services/dask-gateway\n"
        "backend: {name: local, environments: {base: /opt/python}}\n"
        "options:\n  worker_cores: {type: integer, default: 2, maximum: 4}\n  queue: {type: choice, choices: [a, b]}\n"
    )
    first = load(path)
    again = tmp_path / "again.yaml"
    again.write_text(explain(first))

    assert load(again).settings == first.settings


def test_so_can_that_of_a_whole_policy(tmp_path: Path) -> None:
    """The one that is there to be copied: groups, options, limits, budgets and ends."""
    first = load(Path(__file__).parents[3] / "deploy" / "policy" / "platform.yaml")
    again = tmp_path / "again.yaml"
    again.write_text(explain(first))

    assert load(again).settings == first.settings


def test_the_explanation_says_where_each_value_came_from(tmp_path: Path) -> None:
    """Argument, file and line, or default."""
    path = tmp_path / "tidegate.yaml"
    path.write_text("limits:\n  cluster:\n    workers: 7\n")

    text = explain(load(path, {"address": ("--address", "127.0.0.1:9000")}))

    assert "here from --address]\naddress: 127.0.0.1:9000" in text
    assert "(workers, or unlimited), default null; here from tidegate.yaml:3]\n    workers: 7" in text
    assert "(days), default 30; here from default]\nhistory_days: 30" in text


def test_the_reference_page_has_every_setting() -> None:
    """Whatever is declared is on the page, options' own settings too."""
    page = reference({"local": LocalSettings}, {})

    for heading in (
        "## `address`",
        "### `tls.cert`",
        "#### `options.NAME.maximum`",
        "## `history_days`",
        "#### `backend.scratch`",
    ):
        assert heading in page
