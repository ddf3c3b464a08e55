"""Control groups: made where the host allows it, with limits that the kernel keeps, and gone afterwards."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import eventually_sync
from tests.unit.backends.host_groups import needs_groups
from tidegate.backends.local import groups as making
from tidegate.backends.local import machine
from tidegate.backends.local.groups import Groups
from tidegate.backends.local.keeper import processes
from tidegate.backends.local.keeper.groups import SCHEDULER, Group, cores_limit, memory_limit, processes_limit

NOBODY = 65534


@pytest.fixture
def group() -> Iterator[Group]:
    """Give a group as clusters have it."""
    groups = Groups()
    groups.prepare(f"test-{secrets.token_hex(4)}")
    group = groups.make("c1")
    yield group
    group.kill()
    eventually_sync(group.remove, what="nothing is left of the group")


def start_in(group: Group, *command: str) -> subprocess.Popen[str]:
    """Start a process in a group."""
    return subprocess.Popen(command, preexec_fn=group.join, stdout=subprocess.PIPE, text=True)


@needs_groups
def test_a_group_ends_what_nothing_else_finds(group: Group) -> None:
    """What is in it and below it, whoever its parent is; then all of its folders can go."""
    worker = group.below("default-1").make()
    process = start_in(worker, "sh", "-c", "setsid sleep 1000 & wait")
    eventually_sync(lambda: len(worker.members()) == 2)
    assert group.members() == worker.members()
    assert not group.remove()
    group.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    eventually_sync(lambda: not group.members())
    eventually_sync(group.remove)
    assert not any(os.path.exists(folder) for folder in (*group.folders, *worker.folders))


@needs_groups
def test_too_much_memory_is_told_by_the_group(group: Group) -> None:
    """The kernel ends who takes more than the limit, and counts it here and in no other group."""
    worker, other = group.below("default-1").make(), group.below("default-2").make()
    worker.limit(memory_limit(64 * 2**20))
    assert (worker.memory_kills(), worker.is_over_memory()) == (0, False)
    process = start_in(worker, sys.executable, "-c", "b'x' * (200 * 2**20)")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert (worker.memory_kills(), worker.is_over_memory()) == (1, True)
    assert (other.memory_kills(), other.is_over_memory()) == (0, False)


@needs_groups
def test_the_scheduler_has_limits_of_its_own() -> None:
    """Whoever makes its group sets them: the keeper is in it, and may not change them."""
    groups = Groups()
    groups.prepare(f"test-{secrets.token_hex(4)}")
    group = groups.make("c1", limits=memory_limit(64 * 2**20))
    scheduler = group.below(SCHEDULER)
    process = start_in(scheduler, sys.executable, "-c", "b'x' * (200 * 2**20)")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert (scheduler.memory_kills(), scheduler.is_over_memory()) == (1, True)
    group.remove()


@needs_groups
def test_cores_are_limited(group: Group) -> None:
    """Who has a fifth of a core needs five seconds for one of the processor."""
    worker = group.below("default-1").make()
    worker.limit(cores_limit(0.2))
    spin = (
        "import time\nbegan = time.monotonic()\nwhile time.process_time() < 0.3: pass\nprint(time.monotonic() - began)"
    )
    took, _ = start_in(worker, sys.executable, "-c", spin).communicate()
    assert float(took) > 0.8


@needs_groups
def test_processes_are_limited(group: Group) -> None:
    """A fork beyond the limit fails, and takes nothing from others."""
    worker = group.below("default-1").make()
    worker.limit(processes_limit(3))
    fork = "import os\nn = 0\ntry:\n  while n < 50: n += bool(os.fork()) or os._exit(0)\nexcept OSError: print(n)"
    told, _ = start_in(worker, sys.executable, "-c", fork).communicate()
    assert int(told) == 2


@needs_groups
def test_a_keeper_of_another_user_makes_the_groups_of_its_workers() -> None:
    """The cluster's group is given to the cluster's account; the one above it is not."""
    groups = Groups()
    groups.prepare(f"test-{secrets.token_hex(4)}")
    group = groups.make("c1", NOBODY, NOBODY)
    try:
        with multiprocessing.get_context("fork").Pool(1, os.setuid, (NOBODY,)) as pool:
            made = pool.apply(_make_and_limit, (group,))
            outside = pool.apply(Groups.make, (groups, "c2"))
        assert made == len(group.folders) == 4
        assert outside.folders == ()
    finally:
        eventually_sync(group.remove)


def _make_and_limit(group: Group) -> int:
    worker = group.below("default-1").make()
    worker.limit(memory_limit(2**30))
    limits = [Path(folder, "memory.limit_in_bytes") for folder in worker.folders]
    assert any(file.exists() and file.read_text() == f"{2**30}\n" for file in limits)
    assert worker.remove()
    return len(worker.folders)


def test_a_host_that_allows_none_is_no_error() -> None:
    """Who may not make groups works without, and says so."""
    with multiprocessing.get_context("fork").Pool(1, _become_nobody) as pool:
        words, folders = pool.apply(_describe)
    assert "only Dask looks after the memory of workers" in words
    assert folders == ()


def _become_nobody() -> None:
    if os.getuid() == 0:
        os.setuid(NOBODY)


def _describe() -> tuple[str, tuple[str, ...]]:
    groups = Groups()
    groups.prepare("test")
    group = groups.make("c1")
    group.below("default-1").make().limit(memory_limit(1))
    group.join()
    assert group.members() == set()
    group.kill()
    assert group.remove()
    return groups.describe(), group.folders


def test_it_can_be_switched_off() -> None:
    """Then none are made, and it is said that nobody looks after more than memory."""
    groups = Groups(enabled=False)
    groups.prepare("test")
    assert groups.make("c1").folders == ()
    assert "switched off" in groups.describe()


@needs_groups
def test_nothing_is_left_of_finding_out() -> None:
    """The group by which it is found out is gone; what the kernel keeps is said."""
    groups, mark = Groups(), f"test-{secrets.token_hex(4)}"
    groups.prepare(mark)
    assert groups.describe() == "Limits: the kernel keeps each worker to its memory, cores, processes."
    group = groups.make("c1")
    assert all(not Path(folder).parent.joinpath(f"tidegate-{mark}").exists() for folder in group.folders)
    assert all(Path(folder, SCHEDULER).is_dir() for folder in group.folders)
    assert group.remove()


@needs_groups
def test_groups_that_were_left_are_removed_at_the_start() -> None:
    """Those of this gateway's clusters in which nothing runs."""
    groups, mark = Groups(), f"test-{secrets.token_hex(4)}"
    groups.prepare(mark)
    left, living = groups.make("c1"), groups.make("c2")
    left.below("default-1").make()
    process = start_in(living.below(SCHEDULER), "sleep", "1000")
    try:
        eventually_sync(living.members)
        Groups().prepare(mark)
        assert not any(os.path.exists(folder) for folder in left.folders)
        assert all(os.path.exists(folder) for folder in living.folders)
    finally:
        process.kill()
        process.communicate()
        eventually_sync(living.remove)


def test_version_2_is_limited_by_files_of_its_own(tmp_path: Path) -> None:
    """The same limits, where there are only the files of version 2."""
    for name in ("memory.max", "memory.swap.max", "cpu.max", "pids.max"):
        (tmp_path / name).touch()
    group = Group([str(tmp_path)])
    group.limit([*memory_limit(2**30), *cores_limit(1.5), *processes_limit(7)])
    written = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert written == {
        "memory.max": "1073741824",
        "memory.swap.max": "0",
        "cpu.max": "150000 100000",
        "pids.max": "7",
    }


def _own_unified() -> Path | None:
    """Return our group of version 2 if it has a controller to share out; which one does not matter."""
    for folder in machine.group_folders("cgroup2", ""):
        if os.access(folder / "cgroup.procs", os.W_OK) and (folder / "cgroup.controllers").read_text().strip():
            return folder
    return None


@pytest.mark.skipif(_own_unified() is None, reason="this host has no hierarchy of version 2 that we may divide")
def test_the_gateways_own_processes_make_room() -> None:
    """A group of version 2 that shares anything out holds no process itself: ours move down."""
    own = _own_unified()
    assert own is not None
    [controller, *_] = (own / "cgroup.controllers").read_text().split()
    shared = (own / "cgroup.subtree_control").read_text().split()
    making._share_out(own, (controller,))
    group = Group([str(own / f"tidegate-test-{secrets.token_hex(4)}")]).make()
    [folder] = map(Path, group.folders)
    process = start_in(group, "sleep", "1000")
    try:
        eventually_sync(lambda: group.members() == {process.pid})
        making._share_out(folder, (controller,))
        assert (folder / "cgroup.subtree_control").read_text().split() == [controller]
        assert (folder / "cgroup.procs").read_text() == ""
        assert (folder / making.OWN / "cgroup.procs").read_text() == f"{process.pid}\n"
    finally:
        group.kill()
        process.communicate()
        eventually_sync(group.remove)
        if controller not in shared:
            (own / "cgroup.subtree_control").write_text(f"-{controller}")


def test_groups_in_groups_without_end_are_walked(tmp_path: Path) -> None:
    """Who runs in a group may make a thousand below it, each in the other; plain folders stand for them here."""
    deep = tmp_path.joinpath(*"d" * 1200)
    made = tmp_path
    for part in deep.relative_to(tmp_path).parts:
        made = made / part
        os.mkdir(made)
    group = Group([str(tmp_path / "d")])
    assert group.members() == set()
    assert group.remove()
    assert not (tmp_path / "d").exists()


@needs_groups
def test_a_keeper_can_be_adopted_again(group: Group) -> None:
    """It and its children are moved to the scheduler's group; a worker that has a group of its own stays there."""
    worker = group.below("default-1").make()
    keeper = subprocess.Popen(["sh", "-c", "sleep 1000 & sleep 1000 & wait"])
    try:
        eventually_sync(lambda: len(processes.children(keeper.pid)) == 2)
        scheduler, nanny = processes.children(keeper.pid)
        worker.join(nanny)
        for _ in range(2):
            Groups.adopt(group, keeper.pid)
            assert group.below(SCHEDULER).members() == {keeper.pid, scheduler}
            assert worker.members() == {nanny}
    finally:
        group.kill()
        keeper.wait()


@needs_groups
def test_the_groups_of_present_clusters_stay() -> None:
    """Also those that nobody is in yet; those of clusters that have ended go."""
    groups, mark = Groups(), f"test-{secrets.token_hex(4)}"
    groups.prepare(mark)
    present, ended = groups.make("c1"), groups.make("c2")
    try:
        Groups().prepare(mark, {"c1"})
        assert all(os.path.isdir(folder) for folder in present.folders)
        assert not any(os.path.exists(folder) for folder in ended.folders)
    finally:
        present.remove()
