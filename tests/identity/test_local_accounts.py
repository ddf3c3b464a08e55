"""Clusters under the accounts of their owners: two people of one machine, who do not trust each other."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.contract.backend_sites import LocalSite, see, state_of, until
from tests.identity.accounts import Tenants, processes_of
from tests.support import eventually
from tests.unit.backends.host_groups import needs_groups
from tidegate.backends.local import accounts
from tidegate.backends.local.keeper import processes
from tidegate.backends.local.keeper.groups import SCHEDULER, Group
from tidegate.model.cluster import ClusterSpec
from tidegate.model.errors import Invalid
from tidegate.model.observation import ProcessState

RUNNING, EXITED = ProcessState.RUNNING, ProcessState.EXITED


@pytest.fixture
async def alices(people: Tenants, tmp_path: Path) -> AsyncIterator[LocalSite]:
    """Give a place for a cluster of alice's."""
    site = await make_site(people, people.alice.pw_name, tmp_path)
    yield site
    await site.close()


async def make_site(people: Tenants, owner: str, data: Path, **settings: Any) -> LocalSite:
    """Return a site whose clusters run under their owners' accounts."""
    settings = {"accounts": "owner", "folder": people.place / "clusters", **settings}
    return await LocalSite(data, python=people.python, settings=settings, owner=owner).start()


def whoami() -> Callable[[], dict[str, Any]]:
    """Return a task that tells who and where it is. (Nested, for their Python does not find the tests.)"""

    def tell() -> dict[str, Any]:
        import getpass
        import os

        return {
            "name": getpass.getuser(),
            "ids": [os.getresuid(), os.getresgid(), sorted(os.getgroups())],
            "home": [os.environ["HOME"], os.getcwd()],
            "umask": os.umask(0o077),
            "capabilities": open("/proc/self/status").read().split("CapEff:")[1].split()[0],
            "roots": [name for name, value in os.environ.items() if "/root" in value],
        }

    return tell


@pytest.mark.parametrize("zygotes", [0, 1], ids=["started", "forked"])
async def test_a_cluster_is_its_owners(people: Tenants, tmp_path: Path, zygotes: int) -> None:
    """Tasks run as alice, in her home, with nothing of root's; and the cluster does all that clusters do."""
    alice = people.alice
    before = processes_of(alice)
    sites = [await make_site(people, alice.pw_name, tmp_path, zygotes=zygotes) for _ in range(2)]
    try:
        if zygotes:
            await sites[0].run()
            await eventually(lambda: sites[0].zygotes(), 60)
        await sites[1].run(workers=2)
        assert sites[1].was_forked() is bool(zygotes)
        await use(sites[1], alice)
    finally:
        for site in sites:
            await site.close()
    await eventually(lambda: processes_of(alice) == before, what="nothing of it is left")


async def use(alices: LocalSite, alice: pwd.struct_passwd) -> None:
    """Do all that one does with a cluster, from its first task to its end."""
    async with alices.client() as client:
        found = await client.submit(whoami())
        assert found["name"] == alice.pw_name
        assert found["ids"] == [(alice.pw_uid,) * 3, (alice.pw_gid,) * 3, [alice.pw_gid]]
        assert found["home"] == [alice.pw_dir, alice.pw_dir]
        assert (found["umask"], found["capabilities"], found["roots"]) == (0o077, "0" * 16, [])
        assert await client.run_on_scheduler(os.getuid) == alice.pw_uid
        assert set((await client.run(os.getuid, nanny=True)).values()) == {alice.pw_uid}
        await client.restart()
        assert await client.submit(os.getuid) == alice.pw_uid
    assert {accounts.user_of(pid) for pid in alices.marked()} == {alice.pw_uid}
    await alices.backend.stop_workers(alices.launch.cluster, ["default-1"])
    await until(alices, lambda seen: state_of(seen, "default-1") is EXITED)
    other = await alices.open()
    assert state_of(await see(alices, other)) is RUNNING
    assert await other.listens(alices.launch.cluster, await alices.ports())
    assert [log.process for log in await other.logs(alices.launch.cluster)] == ["scheduler", "default-1", "default-2"]
    await other.stop(alices.launch.cluster)
    await until(alices, lambda seen: not seen.remains)
    await other.forget(alices.launch.cluster)
    assert not alices.cluster_folder.exists()


def look_around(paths: list[str], pids: list[int]) -> Callable[[], list[str]]:
    """Return a task that tells what of this it could read, enter or kill."""

    def look() -> list[str]:
        import os
        from pathlib import Path

        tries: list[tuple[Any, Any]] = [(os.listdir, path) for path in paths]
        tries += [(lambda p: Path(p).read_bytes(), path) for path in paths]
        for pid in pids:
            tries += [(os.listdir, f"/proc/{pid}/fd"), (lambda p: Path(p).read_bytes(), f"/proc/{pid}/environ")]
            tries += [(lambda p: os.kill(p, 0), pid)]
        reached = []
        for attempt, what in tries:
            try:
                attempt(what)
            except (PermissionError, NotADirectoryError, IsADirectoryError):
                continue
            reached.append(str(what))
        return reached

    return look


async def test_neighbours_cannot_reach_each_other(people: Tenants, alices: LocalSite, tmp_path: Path) -> None:
    """Alice's code reads nothing of Bob's cluster, of its processes, or of the gateway."""
    bobs = await make_site(people, people.bob.pw_name, tmp_path)
    try:
        await alices.run(workers=1)
        await bobs.run(workers=1)
        place = bobs.cluster_folder
        paths = [place, place / "secrets", place / "secrets" / "agent.json", place / "logs" / "scheduler.log"]
        paths += [place / "status.jsonl", place / "launch.json", place.parent, place.parent / ".mark", bobs.folder]
        pids = [*bobs.marked(), os.getpid()]
        async with alices.client() as client:
            assert await client.submit(look_around([str(path) for path in paths], pids)) == []
            own = [str(alices.cluster_folder), str(alices.cluster_folder / "secrets" / "agent.json")]
            assert await client.submit(look_around(own, list(alices.marked()))) != []
        assert not await alices.backend.listens(alices.launch.cluster, await bobs.ports())
    finally:
        await bobs.close()


async def test_who_has_no_account_is_told(people: Tenants, alices: LocalSite) -> None:
    """A cluster is refused when it is asked for: to whom this machine does not know, and to accounts of the system."""
    python = {"python": people.python}
    assert (await alices.backend.prepare(ClusterSpec(), alices.owner, python)).environment == people.python
    for name in ("nobody-of-that-name", "Root", "a\0b", ""):
        with pytest.raises(Invalid, match=r"cannot run clusters for .*: this machine has no account of that name"):
            await alices.backend.prepare(ClusterSpec(), name, python)
    for name in ("root", "daemon", "nobody"):
        with pytest.raises(Invalid, match=f"cannot run clusters for {name}: that is a system account"):
            await alices.backend.prepare(ClusterSpec(), name, python)
        with pytest.raises(Invalid):
            await alices.backend.launch(replace(alices.launch, owner=name))
    assert not alices.cluster_folder.exists()


async def test_the_gateways_own_account_is_nobodys(people: Tenants, tmp_path: Path) -> None:
    """A user who is named like it would run code where all secrets can be read; its uid need not be a small one."""
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", people.gateway.pw_uid, people.gateway.pw_gid)
    site = await make_site(people, people.alice.pw_name, tmp_path, smallest_uid=1)
    try:
        with pytest.raises(Invalid, match="that is a system account"):
            await site.backend.prepare(ClusterSpec(), people.gateway.pw_name, {"python": people.python})
        assert await site.backend.prepare(ClusterSpec(), site.owner, {"python": people.python})
    finally:
        await site.close()


async def test_a_hint_is_tried_with_the_owners_rights(people: Tenants, alices: LocalSite) -> None:
    """The interpreter of a notebook counts only where its user can run it, whoever else could."""
    hidden = Path(people.bob.pw_dir) / "python"
    hidden.symlink_to(people.python)
    backend = alices.backend
    for owner, found in ((people.alice.pw_name, False), (people.bob.pw_name, True)):
        spec = await backend.prepare(ClusterSpec(), owner, {"python": str(hidden)})
        assert (spec.environment == str(hidden)) is found


async def test_what_a_tenant_plants_leads_nowhere(people: Tenants, alices: LocalSite, tmp_path: Path) -> None:
    """Links, pipes and lies in a cluster's folder make root read, write, end or remove nothing that is not alice's."""
    await alices.run(workers=1)
    os.kill(alices.keeper(), 9)
    await until(alices, lambda seen: state_of(seen) is EXITED)
    secret = people.place / "secret"
    secret.mkdir(mode=0o700)
    (secret / "scheduler.log").write_text("a secret")
    victim = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "100")
    # It looks like a control group, with one process in it, and no more than that is at stake if it is believed.
    group = people.place / f"tidegate-mark-{alices.launch.cluster}"
    group.mkdir()
    (group / "cgroup.procs").write_text(f"{victim}\n")
    folder, alice = alices.cluster_folder, accounts.of(people.alice.pw_name, 1000)
    try:
        with alice.acting():
            (folder / "logs").rename(folder / "logs.old")
            (folder / "logs").symlink_to(secret)
            (folder / "scratch").rename(folder / "scratch.old") if (folder / "scratch").exists() else None
            (folder / "scratch").symlink_to(secret)
            (folder / "secrets").rename(folder / "secrets.old")
            (folder / "secrets").symlink_to(secret)
            (folder / "keeper.pid").unlink()
            (folder / "keeper.pid").write_text(json.dumps(processes.identity(victim)))
            (folder / "status.jsonl").unlink()
            os.mkfifo(folder / "status.jsonl")
            (folder / "launch.json").unlink()
            lies = {"cluster": alices.launch.cluster, "scratch": str(secret), "groups": [str(group)]}
            (folder / "launch.json").write_text(json.dumps(lies))
            os.symlink("/run/systemd/private", folder / "keeper.sock.new")
            (folder / "keeper.sock").unlink(missing_ok=True)
            os.rename(folder / "keeper.sock.new", folder / "keeper.sock")
        backend = alices.backend
        seen = await see(alices)
        assert seen.scheduler is not None
        assert (seen.scheduler.state, seen.scheduler.log_tail) == (EXITED, "")
        assert await backend.logs(alices.launch.cluster) == []
        await backend.launch(alices.launch)
        await backend.stop_workers(alices.launch.cluster, ["default-1"])
        await backend.stop(alices.launch.cluster)
        await backend.forget(alices.launch.cluster)
        assert processes.start_time(victim) is not None
        assert (secret / "scheduler.log").read_text() == "a secret"
        assert not folder.exists()
    finally:
        os.kill(victim, 9)
        os.waitpid(victim, 0)


async def test_what_the_owner_could_not_remove_stays(people: Tenants, alices: LocalSite) -> None:
    """Alice moves what is bob's into her cluster's folder, where both may write: it is not removed for her.

    The cluster ends all the same, and all that is hers goes, also what she has closed to herself.
    """
    await alices.run(workers=1)
    os.kill(alices.keeper(), 9)
    await until(alices, lambda seen: state_of(seen) is EXITED)
    folder, alice = alices.cluster_folder, accounts.of(people.alice.pw_name, 1000)
    bob, project = accounts.of(people.bob.pw_name, 1000), people.place / "project"
    project.mkdir()
    project.chmod(0o777)
    with bob.acting():
        for name in ("results", "more"):
            (project / name / "kept").mkdir(parents=True)
            (project / name / "kept" / "file").write_text("bob's")
            (project / name / "kept").chmod(0o700)
            (project / name).chmod(0o777)
    with alice.acting():
        (project / "results").rename(folder / "logs" / "results")
        (project / "more").rename(folder / "secrets" / "more")
        (folder / "mine").mkdir()
        (folder / "mine" / "file").touch()
        (folder / "mine").chmod(0)
        folder.chmod(0o500)
    await alices.backend.stop(alices.launch.cluster)
    await until(alices, lambda seen: not seen.remains)
    await alices.backend.forget(alices.launch.cluster)
    left = [path for path in folder.rglob("*") if not path.is_dir()]
    assert [(path.name, path.read_text()) for path in left] == [("file", "bob's")] * 2
    assert not (folder / "secrets").exists()
    assert not (folder / "mine").exists()


async def test_nobody_puts_processes_into_anothers_cluster(people: Tenants, alices: LocalSite) -> None:
    """A process of bob's that bears the mark of alice's cluster is neither hers nor ended with hers."""
    await alices.run()
    environment = {processes.MARK: alices.mark, processes.CLUSTER: alices.launch.cluster}
    bob = accounts.of(people.bob.pw_name, 1000)
    with subprocess.Popen(["/bin/sleep", "100"], env=environment, cwd="/", **bob.popen_arguments()) as impostor:
        try:
            await alices.backend.stop(alices.launch.cluster)
            await until(alices, lambda seen: not seen.remains)
            assert impostor.poll() is None
        finally:
            impostor.kill()
    await eventually(lambda: not alices.marked())


@needs_groups
@pytest.mark.parametrize("zygotes", [0, 1], ids=["started", "forked"])
async def test_another_users_keeper_looks_after_its_own_group(people: Tenants, tmp_path: Path, zygotes: int) -> None:
    """Where clusters run under their owners' accounts, their processes are in groups all the same, and leave none."""
    site = await make_site(people, people.alice.pw_name, tmp_path, zygotes=zygotes)
    try:
        await site.run(workers=1)
        group = Group(json.loads((site.cluster_folder / "launch.json").read_text())["groups"])
        scheduler, worker = site.children()
        for folder in group.folders:
            assert Group([folder]).below(SCHEDULER).members() == {site.keeper(), scheduler}
            assert Group([folder]).below("default-1").members() == {worker}
    finally:
        await site.close()
    assert not any(os.path.exists(folder) for folder in group.folders)
