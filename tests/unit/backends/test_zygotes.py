"""Keepers that are forked from a zygote: when that is done, when it is not, and what no two of them share."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import py_compile
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.contract.backend_sites import SECRET_OF_THE_SERVER, LocalSite, see, state_of
from tests.support import eventually
from tidegate.backends.local.backend import LocalBackend
from tidegate.backends.local.keeper import processes, zygote
from tidegate.model.observation import ProcessState

RUNNING = ProcessState.RUNNING


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalSite]:
    """Give a place with a warm zygote."""
    monkeypatch.setenv("DATABASE_PASSWORD", SECRET_OF_THE_SERVER)
    site = await LocalSite(tmp_path, zygote=True).start()
    yield site
    await site.close()


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Make a Python environment of its own, with all that ours has, in which something can be installed."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages(folder) / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def packages(environment: Path) -> Path:
    """Return the folder of an environment in which packages lie."""
    return next(environment.glob("lib/python*/site-packages"))


def zygote_folder(site: LocalSite) -> Path:
    """Return the folder of the site's only zygote."""
    (folder,) = (site.folder / "data" / "clusters" / ".zygotes").iterdir()
    return folder


async def test_a_zygote_knows_nothing(site: LocalSite) -> None:
    """Neither the gateway's environment nor a home nor a cluster's mark, and its socket is its user's alone."""
    (pid,) = site.zygotes()
    environment = Path(f"/proc/{pid}/environ").read_text()
    assert SECRET_OF_THE_SERVER not in environment
    variables = dict(line.split("=", 1) for line in environment.split("\0") if line)
    assert not [name for name in variables if name.startswith(("DASK_", "TIDEGATE_")) and name != "TIDEGATE_ROOM"]
    assert os.listdir(variables["HOME"]) == []
    assert (zygote_folder(site) / zygote.SOCKET_FILE).stat().st_mode & 0o777 == 0o600
    assert zygote_folder(site).stat().st_mode & 0o777 == 0o700
    assert len(os.listdir(f"/proc/{pid}/task")) == 1
    listeners = [line for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines() if " 0A " in line]
    sockets = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    assert not [line for line in listeners if f"socket:[{line.split()[9]}]" in sockets]


async def test_what_is_forked_shows_the_mark_and_shares_nothing(site: LocalSite) -> None:
    """Keeper, scheduler and worker are known by their mark, and have no descriptor, secret or draw in common."""
    other = await LocalSite(site.folder, zygote=True).start()
    try:
        assert site.zygotes() == other.zygotes()
        drawn, keys = zip(*[await draw(await each.run(workers=1)) for each in (site, other)], strict=True)
        assert site.was_forked()
        assert other.was_forked()
        assert all(len(each.marked()) == 3 for each in (site, other))
        opened = [{fd for pid in each.marked() for fd in descriptors(pid)} for each in (site, other)]
        (pid,) = site.zygotes()
        for mine, theirs in ((opened[0], opened[1]), (opened[0], descriptors(pid)), (opened[1], descriptors(pid))):
            assert not {fd for fd in mine & theirs if fd != "anon_inode:[eventpoll]"}
        assert {os.getsid(pid) for pid in site.marked()}.isdisjoint(os.getsid(pid) for pid in other.marked())
        for column in zip(*(draws for pair in drawn for draws in pair), strict=True):
            assert len(set(column)) == 4
        assert keys[0] != keys[1]
        for mine, theirs in ((site, other), (other, site)):
            secrets = [mine.credentials.dashboard_secret.encode(), key_of(mine)]
            assert all(is_in_memory(mine.scheduler(), secret) for secret in secrets)
            strangers = {pid, *theirs.marked()}
            assert not [secret for secret in secrets for stranger in strangers if is_in_memory(stranger, secret)]
        assert not is_in_memory(pid, SECRET_OF_THE_SERVER.encode())
    finally:
        await other.close()


def key_of(site: LocalSite) -> bytes:
    """Return the scheduler's private key as OpenSSL has it in memory: a number, the lowest bytes first."""
    key = load_pem_private_key(site.credentials.scheduler_key.encode(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(32, sys.byteorder)


def is_in_memory(pid: int, secret: bytes) -> bool:
    """Say whether a process has these bytes anywhere in memory of its own."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in lines:
            where, access, *_, path = f"{line} ".split(" ", 5)
            if access.startswith("rw") and not path.strip().startswith("[v"):  # The kernel's own pages.
                start, end = (int(edge, 16) for edge in where.split("-"))
                memory.seek(start)
                if secret in memory.read(end - start):
                    return True
    return False


async def draw(site: LocalSite) -> tuple[list[tuple[object, ...]], bytes]:
    """Return what the scheduler and a worker come to when they ask for chance, and their common key."""

    def ask(**_: Any) -> tuple[object, ...]:
        import multiprocessing
        import random
        import secrets
        import ssl
        import uuid

        import numpy

        key = bytes(multiprocessing.current_process().authkey)
        numbers = random.random(), float(numpy.random.random()), int(numpy.random.default_rng().integers(2**62))
        return *numbers, uuid.uuid4().hex, secrets.token_hex(), ssl.RAND_bytes(16), key

    async with site.client() as client:
        (worker,) = (await client.run(ask)).values()
        scheduler: Any = await client.run_on_scheduler(ask)
        assert scheduler[-1] == worker[-1]
        return [scheduler[:-1], worker[:-1]], scheduler[-1]


def descriptors(pid: int) -> set[str]:
    """Return what a process has open, but for files that anybody may open."""
    found = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    return {target for target in found if not target.startswith("/dev/")}


async def test_the_next_gateway_finds_the_zygote(site: LocalSite) -> None:
    """While a cluster runs it outlives the one that started it, and is there for the next."""
    before = site.zygotes()
    await site.run()
    assert site.was_forked()
    await site.backend.close()
    site.backend = await site.open()
    assert site.zygotes() == before


async def test_no_zygote_stays_where_no_cluster_runs(site: LocalSite) -> None:
    """Who stops an idle gateway finds nothing left of it."""
    assert site.zygotes()
    await site.backend.close()
    await eventually(lambda: not site.zygotes(), 30)
    site.backend = await site.open()


async def test_one_that_a_killed_gateway_left_warming_up_ends_too(tmp_path: Path) -> None:
    """While it warms up nobody can tell it to, and afterwards nobody would come for it."""
    killed, last = (LocalBackend(tmp_path / "data", time.time, {"zygotes": 1}) for _ in range(2))
    await killed.start()
    folders = tmp_path / "data" / "clusters" / ".zygotes"
    await eventually(lambda: list(folders.glob(f"*/{zygote.LOCK_FILE}")), 60, "one warms up")
    killed._launcher.close(for_good=False)

    await last.start()
    await last.close()

    (folder,) = folders.iterdir()
    await eventually(lambda: not mentioned(str(folder)), 30, "none is left")
    await killed.close()


def mentioned(words: str) -> list[int]:
    """Return the processes with these words in their command lines."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if words.encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
    return found


async def test_clusters_go_on_without_the_zygote(site: LocalSite) -> None:
    """Its death costs nobody anything, and another takes its place."""
    await site.run(workers=1)
    (before,) = site.zygotes()
    os.kill(before, signal.SIGKILL)
    await eventually(lambda: [pid for pid in site.zygotes() if pid != before], 60)
    await site.scale(2, 2)
    async with site.client() as client:
        assert await client.submit(sum, [40, 2]) == 42
    assert state_of(await see(site)) is RUNNING


async def test_launches_go_on_when_the_zygote_was_killed(site: LocalSite) -> None:
    """The next has a cluster at once, in whichever way there is; and as soon as there is a zygote, the quick one."""
    (before,) = site.zygotes()
    os.kill(before, signal.SIGKILL)
    await site.run(workers=1)
    other = await LocalSite(site.folder, zygote=True).start()
    try:
        assert before not in other.zygotes()
        await other.run(workers=1)
        assert other.was_forked()
        for each in (site, other):
            async with each.client() as client:
                assert await client.submit(sum, [40, 2]) == 42
    finally:
        await other.close()


async def test_a_zygote_that_hangs_and_dies_costs_no_launch(site: LocalSite) -> None:
    """A launch that it has not answered is repeated in an interpreter, and one keeper comes of it."""
    (pid,) = site.zygotes()
    os.kill(pid, signal.SIGSTOP)
    launching = asyncio.create_task(site.backend.launch(site.launch))
    await eventually(lambda: (site.cluster_folder / "logs" / "scheduler.log").exists())
    os.kill(pid, signal.SIGKILL)
    await launching
    await site.address()
    assert not site.was_forked()
    assert site.marked() == {site.keeper(), site.scheduler()}


async def test_a_zygote_killed_while_it_forks_leaves_one_keeper(site: LocalSite) -> None:
    """Whether its child went on or an interpreter was started: exactly one keeper lives."""
    (pid,) = site.zygotes()
    launching = asyncio.create_task(site.backend.launch(site.launch))
    while not processes.children(pid) and not launching.done():
        await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    await launching
    await site.address()
    assert site.marked() == {site.keeper(), site.scheduler()}


async def test_a_child_that_nobody_wants_any_more_ends(site: LocalSite, tmp_path: Path) -> None:
    """Whoever asked and died before it said go leaves neither a keeper nor the lock behind."""
    (pid,) = site.zygotes()
    launch_file = tmp_path / "launch.json"
    launch_file.write_text('{"preloads": []}')
    with zygote.connect(str(zygote_folder(site))) as connection, open(tmp_path / "log", "wb") as log:
        request = zygote.describe(str(launch_file), {processes.MARK: site.mark, processes.CLUSTER: site.launch.cluster})
        read_end, lock = os.pipe()
        socket.send_fds(connection, [request], [lock, log.fileno()])
        os.close(lock)
        assert json.loads(await asyncio.to_thread(connection.recv, 1000)) == {"ready": True}
        assert len(site.marked()) == 1
    assert await asyncio.to_thread(os.read, read_end, 1) == b""
    os.close(read_end)
    await eventually(lambda: not site.marked())
    assert site.zygotes() == [pid]


async def test_a_request_without_sense_costs_nobody_a_zygote(site: LocalSite, tmp_path: Path) -> None:
    """It is answered with the end of the connection, and the next request with a keeper."""
    before = site.zygotes()
    preload = tmp_path / "no_python.py"
    preload.write_text("def")
    packets = [b"[]", b"nonsense", b'{"op": "fork"}']
    environment = {processes.MARK: site.mark, processes.CLUSTER: site.launch.cluster}
    for n, launch in enumerate(
        ("nothing", "[1]", "{}", '{"preloads": ["/nowhere"]}', f'{{"preloads": ["{preload}"]}}')
    ):
        (tmp_path / f"{n}.json").write_text(launch)
        packets.append(zygote.describe(str(tmp_path / f"{n}.json"), environment))
    for packet in (*packets, zygote.describe("/nowhere", environment)):
        with zygote.connect(str(zygote_folder(site))) as connection, open(os.devnull, "wb") as log:
            socket.send_fds(connection, [packet], [log.fileno(), log.fileno()])
            assert await asyncio.to_thread(connection.recv, 1000) == b""
    assert site.zygotes() == before
    assert not site.marked()
    await site.run()
    assert site.was_forked()


async def test_what_was_compiled_for_one_cluster_is_run_in_no_other(site: LocalSite) -> None:
    """Clusters of one zygote may have been launched by gateways of two versions: each has the guard it came with."""
    guard = site.launch.files["tidegate_worker.py"]
    site.launch.files["tidegate_worker.py"] = guard + b"\nos.environ['GUARD'] = 'another'\n"  # type: ignore[index]
    other = await LocalSite(site.folder, zygote=True).start()
    try:
        assert site.zygotes() == other.zygotes()
        for each, expected in ((other, None), (site, "another")):
            await each.run(workers=1)
            assert each.was_forked()
            async with each.client() as client:
                assert set((await client.run(lambda: os.environ.get("GUARD"))).values()) == {expected}
    finally:
        await other.close()


async def test_a_new_package_is_in_the_next_cluster(tmp_path: Path, environment: Path) -> None:
    """A zygote whose packages have changed forks no more; the launch gets an interpreter, and the next a new zygote."""
    python = environment / "bin" / "python"
    site = await LocalSite(tmp_path, python=str(python), zygote=True, settings=only(python)).start()
    try:
        (before,) = site.zygotes()
        (packages(environment) / "just_installed.py").write_text("ANSWER = 42\n")
        await site.run(workers=1)
        assert not site.was_forked()
        await eventually(lambda: [pid for pid in site.zygotes() if pid != before], 60)
        async with site.client() as client:
            assert await client.submit(lambda: __import__("just_installed").ANSWER) == 42
    finally:
        await site.close()


async def test_a_module_that_starts_a_thread_forbids_to_fork(
    tmp_path: Path, environment: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Then there is no zygote, the log says why, and clusters start all the same."""
    (packages(environment) / "restless.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    python = environment / "bin" / "python"
    settings = only(python) | {"preload_modules": ["restless"], "zygotes": 1}
    site = await LocalSite(tmp_path, python=str(python), settings=settings).start()
    try:
        await eventually(lambda: "it has 2 threads" in caplog.text, 60)
        await site.run()
        assert not site.was_forked()
        assert not site.zygotes()
    finally:
        await site.close()


async def test_a_zygote_that_has_got_a_thread_forks_no_more(
    tmp_path: Path, environment: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What starts a thread later is noticed before the next fork; the launch gets an interpreter."""
    caplog.set_level("INFO")
    module = packages(environment) / "restless_later.py"
    module.write_text(
        "import signal, threading\n"
        "thread = threading.Thread(target=threading.Event().wait, daemon=True)\n"
        "signal.signal(signal.SIGUSR1, lambda *_: thread.start())\n"
    )
    py_compile.compile(str(module))  # Else to import it changes the folder of packages, which ends a zygote too.
    python = environment / "bin" / "python"
    settings = only(python) | {"preload_modules": ["restless_later"]}
    site = await LocalSite(tmp_path, python=str(python), zygote=True, settings=settings).start()
    try:
        (pid,) = site.zygotes()
        os.kill(pid, signal.SIGUSR1)
        await eventually(lambda: len(os.listdir(f"/proc/{pid}/task")) == 2)
        await site.run(workers=1)
        assert not site.was_forked()
        assert "no keeper was forked: it has 2 threads" in caplog.text
        await eventually(lambda: processes.start_time(pid) is None)
        # Another takes its place, and the launches after this are quick again.
        await eventually(lambda: site.zygotes(), 60)
    finally:
        await site.close()


async def test_settings_that_are_read_at_import_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose Dask is configured otherwise, where that is read once, gets an interpreter that reads it."""
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__OFFLOAD", "3 MiB")
    settings = {"pass_environment": ["DASK_DISTRIBUTED__COMM__OFFLOAD"]}
    site = await LocalSite(tmp_path, zygote=True, settings=settings).start()
    try:
        await site.run()
        assert not site.was_forked()
    finally:
        await site.close()


async def test_no_more_are_kept_than_allowed(tmp_path: Path, environment: Path) -> None:
    """The environment that was used last has the place; the other's zygote ends at once."""
    site = await LocalSite(tmp_path, python=str(environment / "bin" / "python"), zygote=True).start()
    try:
        (before,) = site.zygotes()
        await site.run()
        assert not site.was_forked()
        await eventually(lambda: processes.start_time(before) is None)
        await eventually(lambda: len(site.zygotes()) == 1, 60)
    finally:
        await site.close()


def only(python: Path) -> dict[str, Any]:
    """Return settings with which this Python is the default."""
    return {"environments": {"tests": str(python)}, "notebook_environment": False}


async def test_a_zygote_whose_folder_is_gone_ends(site: LocalSite) -> None:
    """Nobody could find it any more."""
    (pid,) = site.zygotes()
    (zygote_folder(site) / zygote.SETTINGS_FILE).unlink()
    await eventually(lambda: processes.start_time(pid) is None, 6 * zygote.CHECK_INTERVAL)
