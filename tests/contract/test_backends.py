"""What every backend promises (``backends/base.py``), tried on each of them.

Where clusters run under their owners' accounts it is tried as well, in ``tests/identity/test_accounts_contract.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.backend_sites import LocalSite, RemoteSite, SimulatedSite, Site, see, shared_data, state_of, until
from tidegate.model.errors import BackendFailed, TidegateError
from tidegate.model.observation import ProcessState, Seen

RUNNING, EXITED = ProcessState.RUNNING, ProcessState.EXITED
NOTHING = "0000000000000000"


async def until_logged(site: Site, processes: list[str]) -> None:
    """Look until the logs of these processes, and no others, have text."""
    async with asyncio.timeout(30):
        while [log.process for log in await site.backend.logs(site.launch.cluster) if log.text] != processes:
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a data folder whose zygote stays warm from one test to the next."""
    with shared_data(tmp_path_factory.mktemp("warm")) as folder:
        yield folder


@pytest.fixture(params=["local", "local-forked", "local-remote", "simulated"])
async def site(request: pytest.FixtureRequest, tmp_path: Path, warm: Path) -> AsyncIterator[Site]:
    """Give a site of each kind; afterwards nothing of it runs."""
    site: LocalSite | SimulatedSite = SimulatedSite()
    if request.param == "local-remote":
        site = RemoteSite(tmp_path)
    elif request.param == "local-forked":
        site = LocalSite(tmp_path, zygote=True, data=warm)
    elif request.param == "local":
        site = LocalSite(tmp_path)
    await site.start()
    yield site
    await site.close()


async def test_what_was_launched_runs_once_however_often_it_is_asked(site: Site) -> None:
    """The second launch finds the first, from whichever instance it comes, and while the first is under way."""
    other = await site.open()
    await asyncio.gather(site.backend.launch(site.launch), other.launch(site.launch))
    await site.address()
    before = await see(site)
    await site.backend.launch(site.launch)
    await other.launch(site.launch)

    seen = await see(site)
    assert state_of(seen) is RUNNING
    assert (seen.scheduler, seen.workers, seen.remains) == (before.scheduler, {}, True)
    assert seen.scheduler is not None
    assert seen.scheduler.host == "127.0.0.1"
    if isinstance(site, LocalSite):
        assert site.was_forked() == site.zygote
        assert site.children() == [site.scheduler()]
        assert site.marked() == {site.keeper(), site.scheduler()}


async def test_workers_start_once_and_stop_as_asked(site: Site) -> None:
    """A worker's name stands for one worker: asked twice it is one, and what ended is not started again."""
    await site.backend.launch(site.launch)
    address = await site.address()
    await site.backend.start_workers(site.launch, address, [])
    await site.backend.start_workers(site.launch, address, ["default-1", "default-2"])
    await site.backend.start_workers(site.launch, address, ["default-2", "default-3"])
    seen = await until(site, lambda seen: all(p.state is RUNNING for p in seen.workers.values()))
    assert sorted(seen.workers) == ["default-1", "default-2", "default-3"]

    await site.backend.stop_workers(site.launch.cluster, ["default-2", "nobody-7"])
    seen = await until(site, lambda seen: state_of(seen, "default-2") is EXITED)
    ended = seen.workers["default-2"]
    assert (ended.expected, ended.code, ended.why) == (True, "exited", "it was asked to stop")
    assert state_of(seen, "default-1") is state_of(seen, "default-3") is RUNNING

    await site.backend.stop_workers(site.launch.cluster, ["default-2"])
    await site.backend.start_workers(site.launch, address, ["default-2"])
    assert state_of(await see(site), "default-2") is EXITED


async def test_another_instance_sees_and_does_the_same(site: Site) -> None:
    """Nothing is remembered in a backend: a restarted gateway finds everything, and can end it."""
    await site.backend.launch(site.launch)
    await site.backend.start_workers(site.launch, await site.address(), ["default-1"])
    first = await see(site)

    second = await site.open()
    found = await see(site, second)
    assert (found.scheduler, dict(found.workers), found.remains) == (first.scheduler, dict(first.workers), True)
    assert await second.list_clusters() == await site.backend.list_clusters() == {site.launch.cluster}
    await second.start_workers(site.launch, await site.address(), ["default-2"])
    assert sorted((await see(site)).workers) == ["default-1", "default-2"]
    await second.stop(site.launch.cluster)
    await until(site, lambda seen: not seen.remains)


async def test_stopped_is_gone_but_for_its_traces(site: Site) -> None:
    """After ``stop`` nothing runs and no secret lies about; ends and logs stay until the cluster is forgotten."""
    name = site.launch.cluster
    await site.backend.launch(site.launch)
    await site.backend.start_workers(site.launch, await site.address(), ["default-1"])
    await until_logged(site, ["scheduler", "default-1"])
    with pytest.raises(BackendFailed):
        await site.backend.forget(name)

    await site.backend.stop(name)
    await site.backend.stop(name)
    seen = await until(site, lambda seen: not seen.remains)
    assert state_of(seen) is state_of(seen, "default-1") is EXITED
    assert all(process is not None and process.expected for process in (seen.scheduler, *seen.workers.values()))
    assert await site.backend.list_clusters() == set()
    if isinstance(site, LocalSite):
        assert not (site.cluster_folder / "secrets").exists()
        assert not (site.cluster_folder / "scratch").exists()
        assert site.marked() == set()

    await site.backend.stop(name)
    await site.backend.stop_workers(name, ["default-1"])
    await until_logged(site, ["scheduler", "default-1"])
    assert all(len(log.text.splitlines()) == 1 for log in await site.backend.logs(name, lines=1))

    await site.backend.forget(name)
    await site.backend.forget(name)
    assert await site.backend.logs(name) == []
    seen = await see(site)
    assert (seen.scheduler, dict(seen.workers), seen.remains) == (None, {}, False)


async def test_a_stop_while_it_starts_leaves_nothing(site: Site) -> None:
    """A cluster may be stopped before its scheduler is up."""
    await site.backend.launch(site.launch)
    await site.backend.stop(site.launch.cluster)
    seen = await until(site, lambda seen: not seen.remains)
    assert state_of(seen) is not RUNNING


async def test_a_scheduler_that_dies_is_seen_with_its_reason(site: Site) -> None:
    """A dead scheduler is EXITED, with a sentence and the tail of its log; its workers do not outlive it."""
    await site.backend.launch(site.launch)
    await site.backend.start_workers(site.launch, await site.address(), ["default-1"])
    await until(site, lambda seen: state_of(seen, "default-1") is RUNNING)
    site.kill_scheduler()

    seen = await until(site, lambda seen: state_of(seen) is state_of(seen, "default-1") is EXITED)
    assert seen.scheduler is not None
    assert (seen.scheduler.code, seen.scheduler.expected) == ("killed", False)
    assert seen.scheduler.why == "signal 9 (SIGKILL) ended its process"
    assert seen.scheduler.log_tail
    assert await site.backend.list_clusters() == {site.launch.cluster}  # its secrets still lie there

    await site.backend.launch(site.launch)
    assert state_of(await see(site)) is EXITED
    with pytest.raises(BackendFailed):
        await site.backend.start_workers(site.launch, "tls://127.0.0.1:1", ["default-2"])
    await site.backend.stop(site.launch.cluster)
    seen = await until(site, lambda seen: not seen.remains)
    assert seen.scheduler is not None
    assert seen.scheduler.code == "killed"


async def test_what_cannot_start_says_why(site: Site) -> None:
    """A launch that cannot succeed is no error of the call; the scheduler is EXITED with a sentence."""
    site.forbid_start()
    await site.backend.launch(site.launch)
    seen = await until(site, lambda seen: state_of(seen) is EXITED)
    assert seen.scheduler is not None
    assert seen.scheduler.code == "cannot-start"
    assert seen.scheduler.why
    await site.backend.stop(site.launch.cluster)
    seen = await until(site, lambda seen: not seen.remains)
    assert seen.scheduler is not None
    assert seen.scheduler.code == "cannot-start"


async def test_unknown_names_do_no_harm(site: Site) -> None:
    """What was never launched can be looked at, stopped, forgotten, and has no logs; it cannot have workers."""
    for call in (
        site.backend.stop(NOTHING),
        site.backend.stop_workers(NOTHING, ["default-1"]),
        site.backend.forget(NOTHING),
    ):
        await call
    assert await site.backend.logs(NOTHING) == []
    seen = await site.backend.observe([NOTHING, site.launch.cluster])
    assert set(seen) == {NOTHING, site.launch.cluster}
    assert seen[NOTHING] == Seen(seen[NOTHING].at)
    assert await site.backend.observe([]) == {}
    with pytest.raises(TidegateError):
        await site.backend.start_workers(site.launch, "tls://127.0.0.1:1", ["default-1"])


async def test_a_port_is_told_from_one_on_which_something_else_listens(site: Site) -> None:
    """An agent may name any port; those of its own scheduler are the cluster's, one that another program holds is not.

    Of a cluster that does not run nothing can be told.
    """
    await site.backend.launch(site.launch)
    own, foreign, name = await site.ports(), site.foreign_port(), site.launch.cluster
    for backend in (site.backend, await site.open()):
        assert await backend.listens(name, own)
        assert not await backend.listens(name, [foreign])
        assert not await backend.listens(name, [*own, foreign])
        with pytest.raises(BackendFailed):
            await backend.listens(NOTHING, own)


async def test_an_observation_is_dated_when_it_begins(site: Site) -> None:
    """``Seen.at`` lies between the call and its return."""
    await site.backend.launch(site.launch)
    before = site.clock()
    seen = await see(site)
    assert before <= seen.at <= site.clock()


async def test_a_new_attempt_takes_the_place_of_the_old(site: Site) -> None:
    """A launch with a higher number ends what an earlier one started; a lower number changes nothing."""
    await site.backend.launch(site.launch)
    await site.backend.start_workers(site.launch, await site.address(), ["default-1"])
    await site.backend.launch(replace(site.launch, attempt=2))
    seen = await see(site)
    assert (state_of(seen), dict(seen.workers)) == (RUNNING, {})
    if isinstance(site, LocalSite):
        assert site.keeper() in site.marked()
        assert len(site.marked()) <= 2

    await site.backend.launch(site.launch)
    assert state_of(await see(site)) is RUNNING


async def test_changes_are_told(site: Site) -> None:
    """Whoever follows ``changes`` hears of a launch, of a worker's end and of the cluster's."""
    other = await site.open()
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def listen() -> None:
        async for name in other.changes():
            heard.put_nowait(name)

    async def hear() -> None:
        assert await asyncio.wait_for(heard.get(), 10) == site.launch.cluster
        while not heard.empty():
            heard.get_nowait()

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)  # Let it begin.
    await site.backend.launch(site.launch)
    await see(site, other)
    await site.backend.start_workers(site.launch, await site.address(), ["default-1"])
    await hear()
    await until(site, lambda seen: state_of(seen, "default-1") is RUNNING)
    await site.backend.stop_workers(site.launch.cluster, ["default-1"])
    await hear()
    await until(site, lambda seen: state_of(seen, "default-1") is EXITED)
    await site.backend.stop(site.launch.cluster)
    while (await see(site)).remains:
        await hear()
    listening.cancel()


async def test_options_resolve_and_have_a_capacity(site: Site) -> None:
    """A backend offers options of its own, resolves a spec, and says how much there is room for, and why."""
    options = {option.name: option for option in site.backend.options()}
    assert {"worker_cores", "worker_memory"} <= set(options)
    assert all(option.check(option.default) == option.default for option in options.values())
    spec = await site.backend.prepare(replace(site.launch.spec, environment=""), site.launch.owner, {})
    assert spec.environment
    capacity = site.backend.capacity(spec)
    assert capacity.max_workers > 0
    assert capacity.reason
