"""What may happen to a cluster of real processes, and what is left and told of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import KilledWorker

from tests.contract.backend_sites import LocalSite, see, state_of, until
from tests.support import eventually
from tests.unit.backends.host_groups import needs_groups
from tidegate.backends.local.keeper import processes
from tidegate.model.cluster import ClusterSpec
from tidegate.model.observation import ProcessState

RUNNING, EXITED = ProcessState.RUNNING, ProcessState.EXITED


def alive(pid: int) -> bool:
    """Say whether a process runs."""
    return processes.start_time(pid) is not None


async def test_a_killed_keeper_takes_its_processes_along(site: LocalSite) -> None:
    """Scheduler and workers die with their keeper; what they had started is found by its mark and ended by ``stop``."""
    await site.run(workers=2)
    async with site.client() as client:
        await client.submit(start_daemon(site.folder / "daemon"))
    daemon = int((site.folder / "daemon").read_text())
    children = set(site.children()) - {daemon}
    assert len(children) == 3
    take_out_of_group(site, daemon)
    os.kill(site.keeper(), signal.SIGKILL)

    await eventually(lambda: not any(alive(pid) for pid in children))
    seen = await until(site, lambda seen: state_of(seen) is EXITED)
    assert alive(daemon)
    assert seen.remains
    assert seen.scheduler is not None
    assert (seen.scheduler.code, seen.scheduler.expected) == ("killed", False)
    assert "keeper was killed" in seen.scheduler.why
    assert [w.code for w in seen.workers.values()] == ["killed", "killed"]
    assert await site.backend.list_clusters() == {site.launch.cluster}

    await site.backend.launch(site.launch)
    assert state_of(await see(site)) is EXITED
    await site.backend.stop(site.launch.cluster)
    assert not alive(daemon)
    seen = await see(site)
    assert not seen.remains
    assert seen.scheduler is not None
    assert "keeper was killed" in seen.scheduler.why


@pytest.mark.parametrize("marked", [True, False], ids=["with its environment", "with another environment"])
async def test_grandchildren_are_gone_after_stop(site: LocalSite, marked: bool) -> None:
    """A daemon that a task started in a session of its own ends with the cluster, even without the mark."""
    await site.run(workers=1)
    async with site.client() as client:
        await client.submit(start_daemon(site.folder / "daemon", marked))
    daemon = int((site.folder / "daemon").read_text())
    assert alive(daemon)
    take_out_of_group(site, daemon)
    await site.backend.stop(site.launch.cluster)
    await until(site, lambda seen: not seen.remains)
    assert not alive(daemon)


@needs_groups
async def test_a_control_group_catches_what_hides_from_a_dead_keeper(site: LocalSite) -> None:
    """Without mark and without a keeper above it, a daemon is still seen to remain, and ended."""
    await site.run(workers=1)
    async with site.client() as client:
        await client.submit(start_daemon(site.folder / "daemon", marked=False))
    daemon = int((site.folder / "daemon").read_text())
    os.kill(site.keeper(), signal.SIGKILL)
    await until(site, lambda seen: state_of(seen) is EXITED)
    await eventually(lambda: not site.marked())
    assert (await see(site)).remains
    await site.backend.stop(site.launch.cluster)
    assert not alive(daemon)
    assert not (await see(site)).remains


def take_out_of_group(site: LocalSite, pid: int) -> None:
    """Move a process out of the cluster's control group, if it has one: then that cannot end it."""
    for folder in json.loads((site.cluster_folder / "launch.json").read_text())["groups"]:
        (Path(folder).parent / "cgroup.procs").write_text(str(pid))


def start_daemon(note: Path, marked: bool = True) -> Callable[[], None]:
    """Return a task that starts a process which belongs to nobody, and notes which."""
    script = f'sleep 1000 & echo $! > "{note}"'

    def start() -> None:
        import subprocess

        environment = None if marked else {"PATH": "/usr/bin:/bin"}
        subprocess.run(["setsid", "sh", "-c", script], env=environment, check=True, stdout=subprocess.DEVNULL)

    return start


async def test_orphans_are_reaped(site: LocalSite) -> None:
    """An orphan that ends does not stay as a zombie of the keeper, whose nannies still learn how their workers end."""
    await site.run(workers=1)
    note = site.folder / "daemon"
    async with site.client() as client:
        await client.submit(start_daemon(note))
    daemon = int(note.read_text())
    os.kill(daemon, signal.SIGKILL)
    await eventually(lambda: not Path(f"/proc/{daemon}").exists(), 30)
    os.kill(site.children()[1], signal.SIGKILL)
    seen = await until(site, lambda seen: seen.workers["default-1"].why)
    assert "signal 9 (SIGKILL)" in seen.workers["default-1"].why


async def test_a_killed_worker_is_replaced_and_its_reason_kept(site: LocalSite) -> None:
    """The nanny starts a new process under the same name; how the last one ended can be read."""
    await site.run(workers=1)
    await site.nannies_up()
    worker = site.children()[1]
    os.kill(worker, signal.SIGKILL)
    seen = await until(site, lambda seen: seen.workers["default-1"].why)
    process = seen.workers["default-1"]
    assert (process.state, process.code) == (RUNNING, "killed")
    assert process.why == "it was restarted after signal 9 (SIGKILL) ended its process"
    async with site.client() as client:
        assert await client.submit(lambda: 42) == 42
        assert worker not in (await client.run(os.getpid)).values()
    assert "signal 9 (SIGKILL) ended its process" in site.log("default-1")


@pytest.mark.parametrize("forked", [False, True], ids=["interpreter", "forked"])
async def test_too_much_memory_kills_the_task_not_the_cluster(tmp_path: Path, forked: bool) -> None:
    """A task that needs more than the limit ends in ``KilledWorker``, quickly, and memory is named as the reason."""
    site = await LocalSite(tmp_path, ClusterSpec(worker_memory=300 * 2**20), zygote=forked).start()
    try:
        await site.run(workers=2)
        async with site.client() as client:
            with pytest.raises(KilledWorker):
                await client.submit(grow(), key="grow")
            assert await client.submit(lambda: 42) == 42
        seen = await see(site)
        reasons = [process for process in seen.workers.values() if process.why]
        assert {process.code for process in reasons} == {"out-of-memory"}
        assert all("95%" in process.why and "300 MiB" in process.why for process in reasons)
    finally:
        await site.close()


def grow() -> Callable[[], None]:
    """Return a task that uses ever more memory."""

    def use_memory() -> None:
        import time

        hoard = []
        while True:
            hoard.append(bytearray(b"x" * (50 * 2**20)))
            time.sleep(0.02)

    return use_memory


async def test_a_worker_that_dies_again_and_again_is_given_up(site: LocalSite) -> None:
    """The nanny does not replace a process for ever: then the worker is EXITED, and says how often it died."""
    await site.run(workers=1)
    await site.nannies_up()
    dead = {0}
    deadline = time.monotonic() + 60
    while state_of(seen := await see(site), "default-1") is RUNNING:
        assert time.monotonic() < deadline, "it goes on for ever"
        for pid in set(site.children()[1:]) - dead:
            dead.add(pid)
            processes.kill(pid)
        await asyncio.sleep(0.01)
    process = seen.workers["default-1"]
    assert (process.code, process.expected) == ("killed", False)
    assert "signal 9 (SIGKILL) ended its process, for the 9th time within 60 s" in process.why
    assert state_of(seen) is RUNNING
    assert len(dead) < 25


async def test_a_worker_that_cannot_start_says_why(site: LocalSite) -> None:
    """A guard that fails ends the worker at once, with the tail of its log; scheduler and other workers go on."""
    site.launch.files["tidegate_worker.py"] = b"raise ImportError('no such thing')\n"  # type: ignore[index]
    await site.run()
    await site.backend.start_workers(site.launch, await site.address(), ["default-1"])
    seen = await until(site, lambda seen: state_of(seen, "default-1") is EXITED)
    process = seen.workers["default-1"]
    assert process.code == "cannot-start"
    assert "no such thing" in process.why
    assert "no such thing" in process.log_tail
    assert state_of(seen) is RUNNING


async def test_a_worker_whose_start_dies_does_not_spin(site: LocalSite) -> None:
    """A process that exits while it starts is not started for ever."""
    site.launch.files["tidegate_worker.py"] = b"import os\nos._exit(70)\n"  # type: ignore[index]
    await site.run()
    await site.backend.start_workers(site.launch, await site.address(), ["default-1"])
    seen = await until(site, lambda seen: state_of(seen, "default-1") is EXITED)
    assert seen.workers["default-1"].code == "cannot-start"
    assert "exit code 70" in seen.workers["default-1"].why


async def test_a_worker_that_finds_no_scheduler_can_be_stopped(site: LocalSite) -> None:
    """A worker that waits for a scheduler which is not there goes at once when it is asked to."""
    await site.run()
    await site.backend.start_workers(site.launch, "tls://127.0.0.1:1", ["default-1"])
    assert state_of(await see(site), "default-1") is RUNNING
    await site.backend.stop_workers(site.launch.cluster, ["default-1"])
    seen = await until(site, lambda seen: state_of(seen, "default-1") is EXITED, 5)
    assert seen.workers["default-1"].expected


async def test_a_retired_worker_ends_by_itself(site: LocalSite) -> None:
    """What the scheduler closes is EXITED, and is not replaced."""
    await site.run(workers=2)
    async with site.client() as client:
        await client.retire_workers(names=["default-2"], close_workers=True)
    seen = await until(site, lambda seen: state_of(seen, "default-2") is EXITED)
    assert seen.workers["default-2"].why == "the scheduler closed it"
    assert state_of(seen, "default-1") is RUNNING


async def test_a_keeper_that_hangs_is_stopped_all_the_same(site: LocalSite) -> None:
    """``stop`` does not depend on the keeper's good will."""
    await site.run(workers=1)
    os.kill(site.keeper(), signal.SIGSTOP)
    await site.backend.stop(site.launch.cluster)
    seen = await see(site)
    assert not seen.remains
    assert not site.marked()
    assert seen.scheduler is not None
    assert seen.scheduler.expected


async def test_an_environment_without_distributed_is_named(site: LocalSite, tmp_path: Path) -> None:
    """A Python without Dask ends the launch within seconds, with what to install and where."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    site.launch = replace(site.launch, spec=replace(site.launch.spec, environment=python))
    await site.backend.launch(site.launch)
    seen = await until(site, lambda seen: state_of(seen) is EXITED, 10)
    assert seen.scheduler is not None
    assert seen.scheduler.why == f"{python} has no distributed: install dask[distributed] there"
    assert "No module named" in seen.scheduler.log_tail


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nowhere/python", "cannot run /nowhere/python: No such file or directory"),
        ("/etc/passwd", "cannot run /etc/passwd: Permission denied"),
        ("/bin/false", "/bin/false could not run: its process ended with exit code 1"),
    ],
)
async def test_a_path_that_is_no_python_is_named(site: LocalSite, path: str, why: str) -> None:
    """What is no interpreter ends the launch at once, in words."""
    site.launch = replace(site.launch, spec=replace(site.launch.spec, environment=path))
    await site.backend.launch(site.launch)
    seen = await see(site)
    assert seen.scheduler is not None
    assert seen.scheduler.state is EXITED
    assert why in seen.scheduler.why


async def test_secrets_lie_where_only_their_owner_reads(site: LocalSite) -> None:
    """Folders are 0700 and files 0600; nothing secret is among arguments, environment or log."""
    await site.run(workers=1)
    for folder in ("", "secrets", "logs"):
        assert (site.cluster_folder / folder).stat().st_mode & 0o777 == 0o700
    for path in (p for p in site.cluster_folder.rglob("*") if p.is_file() and "scratch" not in p.parts):
        assert path.stat().st_mode & 0o077 == 0 or path.suffix == ".pyc", path
    assert (site.cluster_folder / "keeper.sock").stat().st_mode & 0o777 == 0o600
    secrets = (site.double.token, site.credentials.dashboard_secret, "PRIVATE KEY")
    for pid in site.marked():
        for source in ("cmdline", "environ"):
            text = Path(f"/proc/{pid}/{source}").read_text()
            assert not [secret for secret in secrets if secret in text]
    for log in ("scheduler", "keeper", "default-1"):
        assert not [secret for secret in secrets if secret in site.log(log)]


async def test_a_keeper_forgets_workers_that_are_gone(site: LocalSite) -> None:
    """In the life of a cluster there may be thousands; but none of them is started again under its name."""

    def count() -> int:
        import gc

        gc.collect()
        return sum(type(thing).__name__ == "KeptWorker" for thing in gc.get_objects())

    await site.run(workers=3)
    await site.backend.stop_workers(site.launch.cluster, ["default-1", "default-2"])
    await until(site, lambda seen: [state_of(seen, f"default-{n}") for n in (1, 2, 3)] == [EXITED, EXITED, RUNNING])
    await site.backend.start_workers(site.launch, await site.address(), ["default-1", "default-3"])
    async with site.client() as client:
        deadline = time.monotonic() + 10
        while set((counts := await client.run(count, nanny=True)).values()) != {1}:
            assert time.monotonic() < deadline, counts
            await asyncio.sleep(0.05)
    assert state_of(await see(site), "default-1") is EXITED


async def test_environments_that_hang_hold_up_no_look_and_no_stop(site: LocalSite) -> None:
    """Python on a file system that does not answer: only who launches with it waits."""
    python, release = site.folder / "python", site.folder / "release"
    python.write_text(f'#!/bin/sh\n: > "$0-$$"\nwhile [ ! -e "{release}" ]; do sleep 0.05; done\nexit 1\n')
    python.chmod(0o700)
    # More than the threads that asyncio shares out by default.
    number = (os.cpu_count() or 1) + 5
    hang = replace(site.launch, spec=replace(site.launch.spec, environment=str(python)))
    launches = [asyncio.create_task(site.backend.launch(replace(hang, cluster=f"hang{n}"))) for n in range(number)]
    try:
        await eventually(lambda: len(list(site.folder.glob("python-*"))) >= number - 1, 30, "they hang")
        async with asyncio.timeout(20):
            assert not (await see(site)).remains
            await site.backend.stop(site.launch.cluster)
            assert await site.backend.logs(site.launch.cluster) == []
    finally:
        release.touch()
        await asyncio.gather(*launches)
        for n in range(number):
            await site.backend.stop(f"hang{n}")


@pytest.mark.parametrize("forked", [False, True], ids=["interpreter", "forked"])
async def test_a_deep_data_folder_works(tmp_path: Path, forked: bool) -> None:
    """The paths of the keeper's and the zygote's sockets may be longer than the 107 bytes of an address."""
    site = await LocalSite(tmp_path / ("d" * 100) / ("e" * 100), zygote=forked).start()
    try:
        await site.run(workers=1)
        assert site.was_forked() is forked
    finally:
        await site.close()


async def test_two_gateways_do_not_see_each_other(site: LocalSite, tmp_path: Path) -> None:
    """A backend lists and ends what is of its own data folder only."""
    await site.run()
    other = await LocalSite(tmp_path / "other").start()
    try:
        assert await other.backend.list_clusters() == set()
        await other.backend.stop(site.launch.cluster)
        assert state_of(await see(site)) is RUNNING
    finally:
        await other.close()


async def test_the_gateway_that_launched_may_be_killed(site: LocalSite) -> None:
    """A cluster does not depend on the process that started it: not by its session, its pipes, or its parent."""
    await site.run()
    keeper = site.keeper()
    assert os.getsid(keeper) != os.getsid(0)
    fields = Path(f"/proc/{keeper}/stat").read_text().rpartition(")")[2].split()
    assert int(fields[1]) != os.getpid()
    with contextlib.suppress(FileNotFoundError):
        assert "pipe:" not in os.readlink(f"/proc/{keeper}/fd/1")
