"""Clusters of real processes in control groups: what is kept, what is told, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from distributed import KilledWorker

from tests.contract.backend_sites import LocalSite, see, until
from tests.support import eventually
from tests.unit.backends.host_groups import needs_groups
from tidegate.backends.local.keeper.groups import SCHEDULER, Group
from tidegate.model.cluster import ClusterSpec

TERMINATE = "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE"
LIMIT = "with all that its tasks had started it came to more than its limit of 400 MiB"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[LocalSite]:
    """Give a place for a cluster of small workers, which may be told by environment when their nannies act."""
    spec, settings = ClusterSpec(worker_memory=400 * 2**20, worker_cores=1.5), {"pass_environment": [TERMINATE]}
    site = await LocalSite(tmp_path, spec, settings=settings).start()
    yield site
    await site.close()


def group_of(site: LocalSite) -> Group:
    """Return the control group of the site's cluster."""
    return Group(json.loads((site.cluster_folder / "launch.json").read_text())["groups"])


@needs_groups
async def test_each_worker_has_a_group_with_its_limits(site: LocalSite) -> None:
    """Its process, the one that takes its place, and what a task starts; scheduler and keeper have another."""
    await site.run(workers=2)
    group = group_of(site)
    scheduler, *workers = site.children()
    assert group.below(SCHEDULER).members() == {site.keeper(), scheduler}
    members = [group.below(f"default-{n}").members() for n in (1, 2)]
    assert sorted(map(sorted, members)) == sorted([pid] for pid in workers)
    limits = {}
    for folder in group.below("default-1").folders:
        for name in ("memory.limit_in_bytes", "cpu.cfs_quota_us", "pids.max"):
            if os.path.exists(f"{folder}/{name}"):
                limits[name] = int(Path(folder, name).read_text())
    assert limits == {"memory.limit_in_bytes": 420 * 2**20, "cpu.cfs_quota_us": 150_000, "pids.max": 4096}

    async with site.client() as client:
        await client.restart()
        pids = set((await client.run(os.getpid)).values())
        assert {pid for n in (1, 2) for pid in group.below(f"default-{n}").members()} == pids
        task = client.submit(subprocess.run, ["sh", "-c", "cat /proc/self/cgroup"], stdout=subprocess.PIPE, pure=False)
        memberships = (await task).stdout.decode()
    assert memberships.count("/default-") == 4


@needs_groups
async def test_a_worker_that_the_kernel_ends_is_told_of_its_limit(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Dask's nanny comes too late, here because it never acts: the reason names memory, and the limit."""
    monkeypatch.setenv(TERMINATE, "False")

    def take() -> int:
        return len(b"x" * (2 * 2**30))

    await site.run(workers=1)
    async with site.client() as client:
        with pytest.raises(KilledWorker):
            await client.submit(take)
        assert await client.submit(lambda: 42) == 42
    worker = (await see(site)).workers["default-1"]
    assert worker.code == "out-of-memory"
    assert worker.why == f"it was restarted after the kernel killed its process: {LIMIT}"


@needs_groups
async def test_a_process_of_a_task_that_takes_too_much_is_told_of(site: LocalSite) -> None:
    """It counts towards the memory of its worker, which goes on, and the log says what happened."""

    def take() -> int:
        import subprocess
        import sys

        return subprocess.run([sys.executable, "-c", "b'x' * (2 * 2**30)"], check=False).returncode

    await site.run(workers=1)
    before = site.children()
    async with site.client() as client:
        assert await client.submit(take) == -signal.SIGKILL
    seen = await until(site, lambda seen: seen.workers["default-1"].code == "out-of-memory")
    assert seen.workers["default-1"].why == f"the kernel killed a process that a task had started: {LIMIT}"
    assert LIMIT in site.log("default-1")
    assert site.children() == before


@needs_groups
async def test_what_a_worker_leaves_behind_ends_with_it(site: LocalSite) -> None:
    """A daemon that a task started ends when its worker is taken away, and so does the worker's group."""

    def start() -> int:
        import subprocess

        return subprocess.Popen(["setsid", "sleep", "1000"], env={"PATH": "/usr/bin:/bin"}).pid

    await site.run(workers=1)
    async with site.client() as client:
        daemon = await client.submit(start)
    group = group_of(site).below("default-1")
    assert daemon in group.members()
    await site.backend.stop_workers(site.launch.cluster, ["default-1"])
    await eventually(lambda: not any(os.path.exists(folder) for folder in group.folders))
    assert not os.path.exists(f"/proc/{daemon}/cmdline") or not Path(f"/proc/{daemon}/cmdline").read_text()


@needs_groups
@pytest.mark.parametrize("harm", ["stop", "keeper", "scheduler"])
async def test_no_group_is_left(site: LocalSite, harm: str) -> None:
    """Whether the cluster was stopped, or its keeper or its scheduler killed."""
    await site.run(workers=2)
    group = group_of(site)
    if harm != "stop":
        os.kill(site.keeper() if harm == "keeper" else site.scheduler(), signal.SIGKILL)
        await until(site, lambda seen: seen.scheduler and seen.scheduler.state.value == "exited")
    await site.backend.stop(site.launch.cluster)
    await until(site, lambda seen: not seen.remains)
    assert len(group.folders) == 4
    assert not any(os.path.exists(folder) for folder in group.folders)


async def test_without_groups_a_cluster_runs_as_well(tmp_path: Path) -> None:
    """Where they are switched off there are none, and Dask alone looks after memory."""
    site = await LocalSite(tmp_path, settings={"control_groups": "off"}).start()
    try:
        await site.run(workers=1)
        assert group_of(site).folders == ()
        async with site.client() as client:
            assert await client.submit(lambda: 42) == 42
            limits = await client.run(lambda: __import__("resource").getrlimit(4))  # RLIMIT_CORE
            assert {soft for soft, _ in limits.values()} == {0}
    finally:
        await site.close()
