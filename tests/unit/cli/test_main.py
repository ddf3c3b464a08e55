"""The command line: finds its commands, and speaks in sentences."""

from __future__ import annotations

import subprocess
import sys

import click
import dask.config
import pytest

from tidegate.cli.main import COMMANDS, dask_command, run


@pytest.fixture(autouse=True)
def no_gateway() -> object:
    """Whatever the machine's configuration says, there is no gateway."""
    with dask.config.set({"tidegate": {}, "gateway": {}}):
        yield


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with a line of what it does."""
    assert run(["--help"]) == 0

    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert f" {name} " in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It can be imported, and says how it is used."""
    assert run([name, "--help"]) == 0

    assert f"tidegate {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nonsense"], ["clusters", "scale", "x"], ["clusters", "scale", "x", "two"]])
def test_a_command_line_that_makes_no_sense_is_exit_code_2(arguments: list[str]) -> None:
    """As everywhere."""
    assert run(arguments) == 2


@pytest.mark.parametrize("arguments", [["clusters", "list"], ["clusters", "stop", "x"], ["clusters", "create"]])
def test_what_goes_wrong_is_a_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, without a traceback, with exit code 1."""
    assert run(arguments) == 1

    out, err = capsys.readouterr()
    assert err.startswith("cannot find a gateway: no address was given")
    assert "Traceback" not in out + err


def test_a_gateway_that_is_not_there_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Port 1 of loopback is nobody's."""
    assert run(["clusters", "list", "--address", "http://127.0.0.1:1"]) == 1

    assert "cannot reach the gateway at http://127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "--workers=-1"], "Scale expects a non-negative integer, got -1"),
        (["create", "--workers=2", "--no-wait"], "cannot set --workers with --no-wait"),
        (["scale", "x", "-1", "--address", "http://127.0.0.1:1"], "Scale expects a non-negative integer, got -1"),
    ],
)
def test_a_size_that_cannot_be_is_refused_before_the_gateway_is_asked(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No cluster is made that nobody knows the name of; and -1 is a number, not an option."""
    assert run(["clusters", *arguments]) == 1

    assert capsys.readouterr().err.startswith(words)


def test_the_version_needs_no_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    """It tells the client's, and why there is none of a gateway."""
    assert run(["version"]) == 0

    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("tidegate ")
    assert "cannot find a gateway" in second


def test_the_tour_names_the_packages_that_it_lacks() -> None:
    """And the extra that brings them."""
    program = (
        "import sys; sys.modules['skimage'] = None; import importlib.util as u\n"
        "from tidegate.cli.main import run; sys.exit(run(['tour', '--yes']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "skimage" in done.stderr
    assert done.stderr.endswith("missing. Run: pip install 'tidegate[tour]'\n")


def test_the_dask_command_takes_it_as_its_own() -> None:
    """`dask tidegate ...` is the same as `tidegate ...`; Dask demands a command of click."""
    assert isinstance(dask_command, click.Command)
    with pytest.raises(SystemExit) as ended:
        dask_command.main(["version", "--client"], standalone_mode=False)
    assert ended.value.code == 0


def test_a_users_command_does_not_load_the_server() -> None:
    """Commands are imported when they are called."""
    program = (
        "import sys; from tidegate.cli.main import run; run(['clusters', 'list', '--address', 'x'])\n"
        "servers = ('tidegate.server', 'tidegate.cli.serve', 'tidegate.config')\n"
        "sys.exit(any(name.startswith(servers) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60).returncode == 0
