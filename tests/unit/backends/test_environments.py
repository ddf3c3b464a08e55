"""The options of the local backend: which Python runs the work, and how many workers fit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from tidegate.backends.local import environments, machine
from tidegate.backends.local.backend import LocalBackend
from tidegate.backends.local.settings import LocalSettings
from tidegate.model.cluster import ClusterSpec
from tidegate.model.errors import Invalid

GIB = 2**30


@pytest.fixture
def python(tmp_path: Path) -> str:
    """Give the path of something executable."""
    path = tmp_path / "python"
    path.symlink_to(sys.executable)
    return str(path)


async def test_the_notebooks_python_runs_the_work(python: str) -> None:
    """By default the work runs where the notebook's packages are, if this machine has that Python."""
    backend = LocalBackend(Path("/data"))
    assert (await backend.prepare(ClusterSpec(), "alice", {"python": python})).environment == python
    assert (
        await backend.prepare(ClusterSpec(environment="notebook"), "alice", {"python": python})
    ).environment == python


@pytest.mark.parametrize("hint", ["", "python", "/nowhere/python", "/etc/passwd", "/tmp", "/bin/sh\0x", "../bin/sh"])
async def test_a_hint_that_is_no_program_here_is_not_followed(hint: str) -> None:
    """What the client says of itself is only a hint: then it is the gateway's own Python."""
    assert (
        await LocalBackend(Path("/data")).prepare(ClusterSpec(), "alice", {"python": hint})
    ).environment == sys.executable


async def test_the_administrators_environments_are_chosen_by_name(python: str) -> None:
    """A name stands for the path that the administrator set, and no other name does."""
    backend = LocalBackend(Path("/data"), settings={"environments": {"geo": python}})
    option = next(option for option in backend.options() if option.name == "environment")
    assert option.choices == ("notebook", "geo")
    assert (await backend.prepare(ClusterSpec(environment="geo"), "alice", {"python": "/bin/sh"})).environment == python
    with pytest.raises(Invalid, match="choose one of geo, notebook"):
        await backend.prepare(ClusterSpec(environment="/bin/sh"), "alice", {})


async def test_the_notebooks_python_can_be_withheld(python: str) -> None:
    """Where the administrator says so, users choose among the listed environments only."""
    settings = {"environments": {"geo": python}, "notebook_environment": False}
    backend = LocalBackend(Path("/data"), settings=settings)
    option = next(option for option in backend.options() if option.name == "environment")
    assert (option.choices, option.default) == (("geo",), "geo")
    assert (await backend.prepare(ClusterSpec(), "alice", {"python": "/bin/sh"})).environment == python
    with pytest.raises(Invalid):
        await backend.prepare(ClusterSpec(environment="notebook"), "alice", {"python": "/bin/sh"})


async def test_an_environment_that_is_not_there_is_the_administrators_fault() -> None:
    """The user reads that it cannot be used, the operator which path is wrong."""
    backend = LocalBackend(Path("/data"), settings={"environments": {"geo": "/nowhere/python"}})
    with pytest.raises(Invalid) as refusal:
        await backend.prepare(ClusterSpec(environment="geo"), "alice", {})
    assert "/nowhere" not in refusal.value.message
    assert "/nowhere/python" in str(refusal.value.detail)
    assert refusal.value.field == "environment"


def test_paths_are_relative_to_the_configuration(tmp_path: Path) -> None:
    """A relative path counts from the folder of the file in which it stands; a link is not followed."""
    (tmp_path / "python").symlink_to(sys.executable)
    given = {"environments": {"geo": "python"}, "scratch": "spill"}
    settings = LocalSettings.model_validate(given, context={"folder": tmp_path})
    assert settings.environments["geo"] == tmp_path / "python"
    assert settings.scratch == tmp_path / "spill"


def test_unknown_settings_are_refused() -> None:
    """A mistyped setting is an error, not ignored."""
    with pytest.raises(ValidationError):
        LocalBackend(Path("/data"), settings={"enviroments": {}})


def test_defaults_and_bounds_fit_the_machine() -> None:
    """A worker cannot be larger than the machine, and the defaults obey their own bounds."""
    options = {option.name: option for option in environments.options(LocalSettings())}
    assert options["worker_cores"].maximum == len(os.sched_getaffinity(0))
    assert options["worker_memory"].maximum == environments.largest_memory(machine.memory())
    for option in options.values():
        assert option.check(option.default) == option.default
    with pytest.raises(Invalid):
        options["worker_memory"].check("100 MiB")


@pytest.mark.parametrize(("machine_has", "offered"), [(7.78, 7.7), (7.7, 7.7), (64.0, 64.0), (0.1, 0.25)])
def test_the_largest_worker_that_is_offered_fits(machine_has: float, offered: float) -> None:
    """Rounding up would offer what is then refused, because not even one such worker fits."""
    assert environments.largest_memory(int(machine_has * GIB) + 1) == offered


def test_memory_limits_the_number_of_workers() -> None:
    """Memory cannot be shared: as many workers as fit, and the sentence names both numbers."""
    memory = machine.memory()
    capacity = environments.capacity(LocalSettings(core_oversubscription=1000), ClusterSpec(worker_memory=2 * GIB))
    assert capacity.max_workers == memory // (2 * GIB)
    assert capacity.reason == f"this machine has {memory / GIB:.1f} GiB of memory for workers of 2 GiB"


def test_cores_may_be_shared_but_not_without_bound() -> None:
    """Workers of small memory are limited by the cores, each of which stands for eight."""
    cores = machine.cores()
    capacity = environments.capacity(LocalSettings(), ClusterSpec(worker_cores=2, worker_memory=1))
    assert capacity.max_workers == cores * 8 // 2
    assert f"{cores} cores" in capacity.reason
    assert "workers of 2 cores" in capacity.reason


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("scheduler_cores", machine.cores() + 1, f"this machine has {machine.cores()} core"),
        ("scheduler_memory", machine.memory() + 1, "GiB of memory"),
    ],
)
async def test_a_scheduler_larger_than_the_machine_is_refused(field: str, value: float, words: str) -> None:
    """It would be counted as used, and spend the budget of a whole group."""
    backend = LocalBackend(Path("/data"))
    with pytest.raises(Invalid, match=f"{field} is .*, and .*{words}"):
        await backend.prepare(ClusterSpec(**{field: value}), "alice", {})
    fitting = ClusterSpec(scheduler_cores=machine.cores(), scheduler_memory=machine.memory())
    assert (await backend.prepare(fitting, "alice", {})).scheduler_cores == machine.cores()
