"""Workers of the local backend are what Dask users know: one cluster of four, and what they do with it.

All of it twice: with a keeper that started in an interpreter, and with one that was forked from a zygote.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dask
import pytest
import pytest_asyncio
from distributed import Client, WorkerPlugin, get_client

from tests.contract.backend_sites import SECRET_OF_THE_SERVER, LocalSite, see
from tidegate.model.cluster import ClusterSpec
from tidegate.model.observation import ProcessState

VARIABLES = {"CITY": "Zürich\nBern", "DASK_ARRAY__CHUNK_SIZE": "7 MiB"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[False, True], ids=["interpreter", "forked"])
async def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalSite]:
    """Give a running cluster with four workers of two cores."""
    os.environ["DATABASE_PASSWORD"] = SECRET_OF_THE_SERVER
    spec = ClusterSpec(worker_cores=1.5, worker_memory=2**30, scheduler_cores=2, scheduler_memory=2**30)
    folder = tmp_path_factory.mktemp("dask")
    site = await LocalSite(folder, spec, zygote=request.param, variables=VARIABLES).start()
    try:
        await site.run(workers=4)
        await site.nannies_up()
        assert site.was_forked() is request.param
        yield site
    finally:
        del os.environ["DATABASE_PASSWORD"]
        await site.close()


@pytest_asyncio.fixture(loop_scope="module")
async def client(site: LocalSite) -> AsyncIterator[Client]:
    """Give a client of it, connected by TLS as its user."""
    async with site.client() as client:
        yield client


async def test_workers_have_the_asked_shape(client: Client) -> None:
    """A worker has its cores, rounded up, as threads, its memory as limit, and its name."""
    await client.wait_for_workers(4)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    assert sorted(worker["name"] for worker in workers) == [f"default-{n}" for n in range(1, 5)]
    assert {worker["nthreads"] for worker in workers} == {2}
    assert {worker["memory_limit"] for worker in workers} == {2**30}
    assert all(address.startswith("tls://127.0.0.1:") for address in client.scheduler_info(n_workers=-1)["workers"])


async def test_workers_have_dasks_configuration_as_their_user_has_it(client: Client) -> None:
    """What their nannies have otherwise stays with the nannies; and tasks can have all of it put together anew."""

    monitor = "distributed.admin.system-monitor"

    def look() -> tuple[object, ...]:
        import dask

        anew: dict[str, object] = {}
        dask.config.refresh(config=anew)
        return dask.config.get(monitor), dask.config.get(monitor, config=anew), dask.config.paths

    expected = dask.config.get(monitor)
    for found in (await client.run(look)).values():
        assert found == (expected, expected, dask.config._get_paths())
    for interval in (await client.run(lambda: dask.config.get(f"{monitor}.interval"), nanny=True)).values():
        assert interval == "1h"


async def test_nothing_of_the_servers_environment_leaks(client: Client) -> None:
    """A variable of the server is in no process of the cluster; HOME and PATH are."""
    environments: Any = await client.run(lambda: dict(os.environ), nanny=False)
    environments["nanny"] = next(iter((await client.run(lambda: dict(os.environ), nanny=True)).values()))
    environments["scheduler"] = await client.run_on_scheduler(lambda: dict(os.environ))
    for environment in environments.values():
        assert SECRET_OF_THE_SERVER not in "".join(environment.values())
        assert {"HOME", "PATH", "TIDEGATE_CLUSTER", "TIDEGATE_MARK"} <= set(environment)
        assert environment["PATH"].split(":")[0] == os.path.dirname(sys.executable)


async def test_variables_are_set_wherever_tasks_and_plugins_run(client: Client) -> None:
    """In workers and in the scheduler, Dask's configuration with them; ``/proc`` shows them to nobody."""

    def look() -> tuple[str, str, bool]:
        with open("/proc/self/environ") as file:
            shown = "CITY" in file.read()
        return os.environ["CITY"], dask.config.get("array.chunk-size"), shown

    found = [*(await client.run(look)).values(), await client.run_on_scheduler(look)]
    assert set(found) == {("Zürich\nBern", "7 MiB", False)}


async def test_relative_paths_begin_at_home(client: Client) -> None:
    """The working folder is the user's home, and no folder of ours is on the search path."""
    homes: Any = await client.run(os.getcwd)
    assert set(homes.values()) == {os.path.expanduser("~")}
    paths: Any = await client.run(lambda: sys.path)
    assert not any(".keeper" in entry for path in paths.values() for entry in path)


async def test_no_descriptor_of_the_keeper_is_inherited(site: LocalSite) -> None:
    """Scheduler and workers share no socket and no event poll with their keeper, nor its lock."""

    def opened(pid: int) -> set[str]:
        folder = Path(f"/proc/{pid}/fd")
        return {os.readlink(entry) for entry in folder.iterdir() if entry.is_symlink()}

    keeper = {target for target in opened(site.keeper()) if target.startswith("socket:") or "keeper" in target}
    assert keeper
    children = site.children()
    assert len(children) == 5
    for pid in children:
        assert not opened(pid) & keeper
        assert sum("[eventpoll]" in target for target in opened(pid)) == 1


async def test_large_objects_go_through(client: Client) -> None:
    """20 MB is more than Dask serializes in the loop: a forked process without its offload thread would hang here."""
    there = await client.scatter(os.urandom(20 * 2**20))
    copies = client.map(lambda data, n: data + bytes([n]), [there] * 4, range(4), pure=False)
    sizes = await client.gather([client.submit(len, copy) for copy in copies])
    assert sizes == [20 * 2**20 + 1] * 4
    assert len(await copies[0]) == 20 * 2**20 + 1


async def test_random_streams_differ(client: Client) -> None:
    """No two workers draw the same, from whichever generator, nor do they after a restart."""

    def draw() -> tuple[object, ...]:
        import random
        import secrets
        import ssl
        import uuid

        import numpy

        numbers = random.random(), float(numpy.random.random()), int(numpy.random.default_rng().integers(2**62))
        return *numbers, uuid.uuid4().hex, secrets.token_hex(), ssl.RAND_bytes(16)

    drawn: Any = list((await client.run(draw)).values())
    await client.restart()
    drawn += (await client.run(draw)).values()
    for column in zip(*drawn, strict=True):
        assert len(set(column)) == 8


async def test_blas_has_the_cores_of_the_worker(client: Client) -> None:
    """Linear algebra works in forked workers, and its libraries themselves say that they use the worker's cores."""

    def multiply() -> tuple[float, list[int]]:
        import ctypes

        import numpy
        import scipy.linalg  # With a library of its own, which is loaded only here.

        a = numpy.ones((600, 600))
        product = scipy.linalg.blas.dgemm(1.0, a, a @ a / 600)
        with open("/proc/self/maps") as file:
            paths = {line.split()[-1] for line in file if "openblas" in line}
        names = [f"{prefix}openblas_get_num_threads{suffix}" for prefix in ("", "scipy_") for suffix in ("", "64_")]
        libraries = [ctypes.CDLL(path) for path in paths]
        counts = [getattr(library, name)() for library in libraries for name in names if hasattr(library, name)]
        return float(product.sum()), counts

    results = [await client.submit(multiply, pure=False, workers=f"default-{n}") for n in range(1, 5)]
    assert {total for total, _ in results} == {600.0**3}
    assert all(len(counts) >= 2 and set(counts) == {2} for _, counts in results)


async def test_arrow_works_on_all_cores_of_the_worker(client: Client, tmp_path: Path) -> None:
    """Its pools of threads are each worker's own, as large as the worker, and tables pass through files and wires."""
    pytest.importorskip("pyarrow", reason="Arrow is not installed beside these tests")

    def round_trip(path: str) -> tuple[int, int]:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet

        table = pyarrow.table({"n": range(500_000), "word": ["blue", "green"] * 250_000})
        pyarrow.parquet.write_table(table, path, row_group_size=50_000)
        blue = pyarrow.parquet.read_table(path, use_threads=True).filter(pyarrow.compute.field("word") == "blue")
        return pyarrow.compute.sum(blue["n"]).as_py(), pyarrow.cpu_count()

    names = [f"default-{n}" for n in range(1, 5)]
    sums = [client.submit(round_trip, str(tmp_path / f"{name}.parquet"), workers=name) for name in names]
    assert set(await client.gather(sums)) == {(sum(range(0, 500_000, 2)), 2)}
    frame = client.submit(lambda: __import__("pandas").DataFrame({"word": ["blue", None] * 1000}))
    assert await client.submit(lambda frame: int(frame["word"].isna().sum()), frame) == 1000


async def test_a_task_can_be_a_client(client: Client) -> None:
    """``get_client`` in a task connects by TLS too."""

    def outer() -> int:
        with_client = get_client()
        return int(with_client.submit(lambda: 41).result()) + 1

    assert await client.submit(outer) == 42


async def test_files_and_plugins_arrive(client: Client, tmp_path: Path) -> None:
    """``upload_file`` and a worker plugin work, and outlast a restart."""
    module = tmp_path / "uploaded_by_a_user.py"
    module.write_text("ANSWER = 42\n")

    class Plugin(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            worker.answer = 43

    def answers(dask_worker: Any) -> tuple[int, int]:
        import uploaded_by_a_user

        return uploaded_by_a_user.ANSWER, dask_worker.answer

    await client.upload_file(str(module))
    await client.register_plugin(Plugin(), name="answer")
    assert set((await client.run(answers)).values()) == {(42, 43)}
    await client.restart()
    assert set((await client.run(answers)).values()) == {(42, 43)}


async def test_restart_makes_new_processes(client: Client, site: LocalSite) -> None:
    """``client.restart()`` replaces every worker's process; their names stay, and nothing is called a failure."""
    before = set((await client.run(os.getpid)).values())
    await client.restart()
    after = set((await client.run(os.getpid)).values())
    assert len(after) == 4
    assert not before & after
    seen = await see(site)
    assert all(process.state is ProcessState.RUNNING for process in seen.workers.values())
    assert all(not process.why for process in seen.workers.values())


async def test_a_restart_that_has_to_use_force_is_no_failure(client: Client, site: LocalSite) -> None:
    """A worker that does not end by itself, or is slow to on a busy machine, was asked to all the same."""

    def hang(dask_worker: Any) -> None:
        async def never(*_: Any, **__: Any) -> None:
            await asyncio.Event().wait()

        dask_worker.close = never

    async def kill(dask_worker: Any) -> None:
        await dask_worker.kill(timeout=0.5)  # as restarts do, which wait longer

    names: Any = await client.run(lambda dask_worker: dask_worker.name)
    (address,) = [address for address, name in names.items() if name == "default-1"]
    await client.run(hang, workers=[address])
    await client.run(kill, workers=[address], nanny=True)

    await client.wait_for_workers(4)
    seen = (await see(site)).workers["default-1"]
    assert (seen.state, seen.why) == (ProcessState.RUNNING, "")


async def test_each_process_has_a_log_of_its_own(client: Client, site: LocalSite) -> None:
    """What a task prints or logs is in the log of its worker, at once, and in no other."""

    def say(dask_worker: Any) -> str:
        import logging
        import subprocess

        print(f"printed by {dask_worker.name}")
        logging.getLogger("distributed.worker").warning("logged by %s", dask_worker.name)
        subprocess.run(["echo", f"echoed by {dask_worker.name}"], check=True)
        return str(dask_worker.name)

    names: Any = await client.run(say)
    logs = {log.process: log.text for log in await site.backend.logs(site.launch.cluster)}
    assert list(logs) == ["scheduler", "default-1", "default-2", "default-3", "default-4"]
    for name in names.values():
        for verb in ("printed", "logged", "echoed"):
            assert [log for log, text in logs.items() if f"{verb} by {name}" in text] == [name]


async def test_dashboards_are_tls_and_guarded(client: Client, site: LocalSite) -> None:
    """Scheduler and workers serve their pages by TLS, and to nobody without the cluster's secret."""
    import ssl
    import urllib.error
    import urllib.request

    context = ssl.create_default_context(cadata=site.credentials.ca_cert)
    context.check_hostname = False
    await client.wait_for_workers(4)
    ports = [site.double.last.dashboard_port]
    ports += [w["services"]["dashboard"] for w in client.scheduler_info(n_workers=-1)["workers"].values()]

    def fetch(port: int, **headers: str) -> int:
        request = urllib.request.Request(f"https://127.0.0.1:{port}/health", headers=headers)
        try:
            with urllib.request.urlopen(request, context=context, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert len(ports) == 5
    for port in ports:
        assert port is not None
        assert await asyncio.to_thread(fetch, port) == 404
        secret = {"X-Tidegate-Dashboard": site.credentials.dashboard_secret}
        assert await asyncio.to_thread(lambda p=port, s=secret: fetch(p, **s)) == 200
