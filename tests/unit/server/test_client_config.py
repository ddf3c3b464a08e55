"""The file that is left for Dask: where, with what, and what is never touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate.server import preflight
from tidegate.server.client_config import HEADER, ClientConfig, Connection

ALICE = Connection("http://127.0.0.1:8000", "alice", "tdg_secret")
OTHER = Connection("http://127.0.0.1:9000", "alice", "tdg_other")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def config_of(home: Path, data: str = "data", **environ: str) -> ClientConfig:
    return ClientConfig(home / data, {"HOME": str(home), "DASK_ROOT_CONFIG": str(home / "etc"), **environ})


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def test_both_clients_find_the_gateway_and_nobody_else_can_read_it(home: Path) -> None:
    """A section for each client, in a file of mode 0600 in Dask's own folder."""
    notes = config_of(home).leave(ALICE)

    path = home / ".config" / "dask" / "tidegate.yaml"
    assert content(path)["tidegate"]["address"] == content(path)["gateway"]["address"] == "http://127.0.0.1:8000"
    assert content(path)["gateway"]["auth"]["kwargs"] == {"username": "alice", "password": "tdg_secret"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(path) in notes[0]


def test_both_clients_are_told_where_the_schedulers_are(home: Path) -> None:
    """Where HTTP has a proxy before the gateway, and nothing is said where it has none."""
    config_of(home).leave(Connection("https://hub/services/dask", "alice", "tdg_secret", None, "gateway:8000"))
    told = content(home / ".config" / "dask" / "tidegate.yaml")
    config_of(home).leave(ALICE)
    untold = content(home / ".config" / "dask" / "tidegate.yaml")

    assert [told[name]["proxy-address"] for name in ("tidegate", "gateway")] == ["gateway:8000", "gateway:8000"]
    assert not any("proxy-address" in untold[name] for name in ("tidegate", "gateway"))


def test_our_client_is_told_whose_listener_it_should_find(home: Path) -> None:
    """The official one would have no use for it; and user 0 is a user."""
    config_of(home).leave(Connection("http://127.0.0.1:8000", "alice", "tdg_secret", listener_uid=0))
    told = content(home / ".config" / "dask" / "tidegate.yaml")
    config_of(home).leave(ALICE)
    untold = content(home / ".config" / "dask" / "tidegate.yaml")

    assert told["tidegate"]["listener-uid"] == 0
    assert "listener-uid" not in told["gateway"] | untold["tidegate"]


def test_the_second_start_changes_nothing_and_says_nothing(home: Path) -> None:
    """What is there and right stays as it is."""
    config = config_of(home)
    config.leave(ALICE)
    before = config.path.stat().st_mtime_ns

    assert config.leave(ALICE) == []
    assert config.path.stat().st_mtime_ns == before
    assert config.token() == "tdg_secret"


def test_a_new_address_is_written_into_our_own_file(home: Path) -> None:
    """Notebooks follow the gateway to its new port."""
    config = config_of(home)
    config.leave(ALICE)

    config.leave(Connection("http://127.0.0.1:9000", "alice", "tdg_secret"))

    assert content(config.path)["gateway"]["address"] == "http://127.0.0.1:9000"


def test_a_file_that_we_did_not_write_is_never_touched(home: Path) -> None:
    """Not its content, not its mode; ours is laid aside, and the sentence says how to use it."""
    config = config_of(home)
    config.path.parent.mkdir(parents=True)
    config.path.write_text("tidegate:\n  address: https://platform.example.org\n")
    config.path.chmod(0o644)

    notes = config.leave(ALICE)

    assert config.path.read_text() == "tidegate:\n  address: https://platform.example.org\n"
    assert config.path.stat().st_mode & 0o777 == 0o644
    assert f"DASK_CONFIG={home / 'data' / 'dask'}" in notes[0]
    assert content(home / "data" / "dask" / "tidegate.yaml")["tidegate"]["address"] == "http://127.0.0.1:8000"
    assert config.token() == "tdg_secret"


@pytest.mark.parametrize("where", [".config/dask/gateway.yaml", "etc/gateway.yaml", ".config/dask/x.json"])
def test_an_existing_gateway_section_is_not_redirected(home: Path, where: str) -> None:
    """A platform's dask-gateway stays the one that dask_gateway finds; ours is found by tidegate."""
    path = home / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"gateway": {"address": "https://platform.example.org"}}')
    config = config_of(home)

    notes = config.leave(ALICE)

    assert list(content(config.path)) == ["tidegate"]
    assert any(str(path) in note for note in notes)


def test_a_gateway_in_the_environment_is_not_redirected(home: Path) -> None:
    """Dask reads DASK_GATEWAY__ADDRESS as well."""
    config = config_of(home, DASK_GATEWAY__ADDRESS="https://platform.example.org")

    notes = config.leave(ALICE)

    assert list(content(config.path)) == ["tidegate"]
    assert any("$DASK_GATEWAY__ADDRESS" in note for note in notes)


def test_a_commented_template_is_no_section(home: Path) -> None:
    """dask-gateway leaves a file of comments there; it chooses no gateway."""
    path = home / ".config" / "dask" / "gateway.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# gateway:\n#   address: null\n")
    config = config_of(home)

    config.leave(ALICE)

    assert list(content(config.path)) == ["tidegate", "gateway"]


def test_a_gateway_section_that_appears_later_takes_ours_away(home: Path) -> None:
    """At the next start our section gives way."""
    config = config_of(home)
    config.leave(ALICE)
    (config.path.parent / "platform.yaml").write_text("gateway: {address: 'https://platform.example.org'}\n")

    config.leave(ALICE)

    assert list(content(config.path)) == ["tidegate"]


def test_where_both_sections_are_taken_nothing_is_written_there(home: Path) -> None:
    """Even a file that we wrote before goes, and the credential is laid aside."""
    config = config_of(home)
    config.leave(ALICE)
    (config.path.parent / "platform.yaml").write_text("gateway: {address: x}\ntidegate: {address: y}\n")

    notes = config.leave(ALICE)

    assert not config.path.exists()
    assert config.aside.exists()
    assert "DASK_CONFIG" in notes[0]


def test_dask_config_says_where(home: Path) -> None:
    """A folder in $DASK_CONFIG is where the user keeps them; a single file there leaves the home folder."""
    assert config_of(home, DASK_CONFIG=str(home / "elsewhere")).path == home / "elsewhere" / "tidegate.yaml"
    assert config_of(home, DASK_CONFIG=str(home / "one.yaml")).path == home / ".config" / "dask" / "tidegate.yaml"


def test_our_file_begins_with_the_mark_by_which_we_know_it(home: Path) -> None:
    """Without the line it is the user's, and left alone."""
    config = config_of(home)
    config.leave(ALICE)
    text = config.path.read_text()
    assert text.startswith(HEADER + "\n")

    config.path.write_text(text.removeprefix(HEADER + "\n"))
    config.leave(Connection("http://127.0.0.1:9000", "alice", "tdg_other"))

    assert content(config.path)["tidegate"]["address"] == "http://127.0.0.1:8000"


def test_the_secret_is_not_in_the_representation() -> None:
    """It would end up in a log."""
    assert "tdg_secret" not in repr(ALICE)


def test_a_folder_that_cannot_be_written_is_stepped_around(home: Path) -> None:
    """The gateway serves all the same, and says where its credential lies."""
    (home / ".config").write_text("a file where a folder is expected\n")
    config = config_of(home)

    notes = config.leave(ALICE)

    assert f"cannot write {config.path}" in notes[0]
    assert f"DASK_CONFIG={home / 'data' / 'dask'}" in notes[0]
    assert config.token() == "tdg_secret"


def test_a_gateway_that_runs_keeps_the_file(home: Path) -> None:
    """A second one lays its own aside, stays with its own token, and says how it is reached."""
    first = config_of(home)
    first.leave(ALICE)
    (home / "data").mkdir()
    lock = preflight.lock(home / "data" / "control.lock", "the first gateway runs")
    second = config_of(home, data="other")

    notes = second.leave(OTHER)
    again = config_of(home, data="other")

    os.close(lock)
    assert content(first.path)["tidegate"]["address"] == "http://127.0.0.1:8000"
    assert (first.token(), again.token()) == ("tdg_secret", "tdg_other")
    assert f"the gateway with its data in {home / 'data'}, which runs" in notes[0]
    assert f"DASK_CONFIG={home / 'other' / 'dask'}" in notes[0]


def test_a_gateway_that_has_ended_gives_the_file_up(home: Path) -> None:
    """``Gateway()`` finds the one that runs."""
    first, second = config_of(home), config_of(home, data="other")
    first.leave(ALICE)
    (home / "data").mkdir()
    os.close(preflight.lock(home / "data" / "control.lock", "the first gateway runs"))

    second.leave(OTHER)

    assert content(first.path)["tidegate"]["address"] == "http://127.0.0.1:9000"
    assert (first.token(), second.token()) == (None, "tdg_other")
