"""Command lines and environments: what is in them, and above all what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from distributed.cli.dask_scheduler import main as scheduler_command

from tidegate.backends import commands
from tidegate.model.cluster import ClusterSpec

SPEC = ClusterSpec(worker_cores=2.5, worker_memory=3 * 2**30)


@pytest.fixture
def files(tmp_path: Path) -> str:
    """Give a folder with preloads, which Dask imports while it parses."""
    for name in (commands.AGENT, commands.WORKER_GUARD):
        (tmp_path / name).touch()
    return str(tmp_path)


def test_the_scheduler_command_is_one_that_dask_understands(files: str) -> None:
    """Every option exists, and the values arrive where they belong."""
    arguments = commands.scheduler_arguments(files, "10.0.0.1")
    parsed = scheduler_command.make_context("scheduler", arguments).params
    assert parsed["host"] == "10.0.0.1"
    assert parsed["port"] == "0"
    assert parsed["protocol"] == "tls"
    assert parsed["dashboard_address"] == "10.0.0.1:0"
    assert parsed["dashboard"] is False, "the agent makes the pages"
    assert parsed["preload"] == (f"{files}/tidegate_agent.py",)


def test_only_what_is_the_persons_or_the_machines_is_passed_on() -> None:
    """A variable reaches the processes of users only if it is listed, or named by the administrator."""
    own = {"HOME": "/home/a", "LC_ALL": "C", "PATH": "/bin", "PGPASSWORD": "s", "DASK_X": "1", "LD_LIBRARY_PATH": "/x"}
    assert commands.passed_environment(own) == {"HOME": "/home/a", "LC_ALL": "C", "PATH": "/bin"}
    assert commands.passed_environment(own, ["LD_LIBRARY_PATH"])["LD_LIBRARY_PATH"] == "/x"


def test_scheduler_and_worker_have_certificates_of_their_own() -> None:
    """Each role names its own leaf, for its listener and for its dashboard; both demand encryption."""
    worker = commands.worker_environment("/files", SPEC)
    scheduler = worker | commands.scheduler_environment("/files")
    assert worker["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
    assert worker["DASK_DISTRIBUTED__COMM__TLS__WORKER__CERT"] == "/files/worker.pem"
    assert worker["DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__TLS__CERT"] == "/files/worker.pem"
    assert scheduler["DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY"] == "/files/scheduler.key"
    assert scheduler["DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__TLS__KEY"] == "/files/scheduler.key"
    assert "DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY" not in worker


@pytest.mark.parametrize(("cores", "threads"), [(0.5, 1), (1, 1), (1.5, 2), (4, 4)])
def test_threads_are_cores_rounded_up(cores: float, threads: int) -> None:
    """Half a core is one thread; libraries for linear algebra get as many."""
    spec = ClusterSpec(worker_cores=cores)
    assert commands.threads(spec) == threads
    assert commands.worker_environment("/files", spec)["OMP_NUM_THREADS"] == str(threads)
    assert commands.threads(replace(spec, worker_threads=7)) == 7
