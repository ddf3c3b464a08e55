"""From a file to settings, and from every mistake to a sentence with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate.config.load import BadConfig, load
from tidegate.config.schema import Address


def write(folder: Path, text: str) -> Path:
    path = folder / "tidegate.yaml"
    path.write_text(text)
    return path


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        load(write(folder, text))
    return caught.value.problems


def test_without_a_file_everything_is_at_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded defaults: loopback, local processes, the user's own data folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    settings = load().settings

    assert (settings.address, settings.backend.name) == ("127.0.0.1:8000", "local")
    assert settings.data == tmp_path / "tidegate"


def test_an_unknown_key_is_refused_with_line_and_the_nearest_name(tmp_path: Path) -> None:
    """A slip of the pen is found at start, at its line, with what was probably meant."""
    text = "limits:\n  cluster:\n    # the most that fits\n    worker: 4\n"

    assert problems(tmp_path, text) == [
        "tidegate.yaml:4: limits.cluster.worker is not a setting; did you mean workers?"
    ]


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    """An administrator mends a file in one go."""
    text = "prefix: nonsense\nlimits: {cluster: {workers: -1}}\nadress: x\noptions:\n  worker_cores: {type: intteger}\n"

    found = problems(tmp_path, text)

    assert [p.split(": ")[0] for p in found] == [f"tidegate.yaml:{n}" for n in (1, 2, 3, 5)]
    assert "did you mean address?" in found[2]
    assert "cannot set options.worker_cores.type to 'intteger'" in found[3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1\n", "tidegate.yaml:2: cannot be read as YAML"),
        ("- 1\n", "tidegate.yaml:1: must hold settings"),
        ("prefix: /a\nprefix: /b\n", "tidegate.yaml:2: prefix is set twice; the first is in line 1"),
        ("tls: {cert: nowhere.pem}\n", "tls.key is missing"),
        ("tls: {cert: nowhere.pem, key: nowhere.key}\n", "cannot read"),
        ("tls: yes\n", "tls to True: it holds settings of its own"),
        ("address: '8000'\n", "write HOST:PORT"),
        ("address: 127.0.0.1:99999\n", "at most 65535"),
        ("public_url: dask.example.org\n", "write a URL"),
        ("dashboards: {host: dask.example.org}\n", "write '{name}.' and a domain"),
        (
            "authentication: {groups: {2026: [al]}}\n",
            "tidegate.yaml:1: authentication.groups.2026: a name must be text",
        ),
        ("authentication: {groups: {a: al}}\n", "cannot set authentication.groups.a to 'al': it must be a list"),
        ("budgets: {days: month}\n", "cannot set budgets.days to 'month': it must be a whole number"),
        ("a: !!python/object:os.system {}\n", "cannot be read as YAML"),
    ],
)
def test_a_mistake_is_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    """No traceback: what is wrong, where, and what to write."""
    assert any(words in p for p in problems(tmp_path, text))


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    """``--config`` with a typing error says so."""
    with pytest.raises(BadConfig, match=r"cannot read .*absent\.yaml: No such file"):
        load(tmp_path / "absent.yaml")


def test_null_means_the_default(tmp_path: Path) -> None:
    """A section that is commented out below its name stays at its defaults."""
    assert load(write(tmp_path, "tls:\nlimits:\n  cluster:\n    workers:\nhistory_days:\n")).settings.history_days == 30


def test_paths_are_relative_to_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not matter from where the gateway is started."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert load(write(tmp_path, "data: state\n")).settings.data == tmp_path / "state"
    assert load(None, {"data": ("--data", Path("state"))}).settings.data == tmp_path / "elsewhere" / "state"


def test_the_command_line_wins_and_is_named_as_the_origin(tmp_path: Path) -> None:
    """What holds, and where it came from."""
    path = write(tmp_path, "\naddress: 127.0.0.1:8001\nprefix: /a\n")

    loaded = load(path, {"address": ("--address", "127.0.0.1:9000"), "data": ("--data", None)})

    assert loaded.settings.address == "127.0.0.1:9000"
    assert loaded.origin(("address",)) == "--address"
    assert loaded.origin(("prefix",)) == "tidegate.yaml:3"
    assert loaded.origin(("data",)) == "default"


def test_a_bad_argument_is_named(tmp_path: Path) -> None:
    """A mistake on the command line is not looked for in the file."""
    with pytest.raises(BadConfig, match="--address: cannot set address to 'x'"):
        load(write(tmp_path, "address: 127.0.0.1:8001\n"), {"address": ("--address", "x")})


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:8000", True),
        ("localhost:1", True),
        ("[::1]:8000", True),
        ("0.0.0.0:8000", False),
        ("[::]:8000", False),
        ("dask.example.org:443", False),
    ],
)
def test_addresses(text: str, loopback: bool) -> None:
    """Reading and writing an address gives the same, and it knows whether only this machine can reach it."""
    address = Address.parse(text)

    assert (str(address), address.loopback) == (text, loopback)


def test_settings_of_a_backend_are_handed_on(tmp_path: Path) -> None:
    """Which settings a backend has, it says itself."""
    settings: Any = load(write(tmp_path, yaml.safe_dump({"backend": {"name": "slurm", "partition": "cpu"}}))).settings

    assert (settings.backend.name, settings.backend.settings) == ("slurm", {"partition": "cpu"})
