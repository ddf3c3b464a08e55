"""``make platform`` as two people have it who were told its address: they log in, open a notebook, and compute."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platform.person import Person
from tests.support import eventually, eventually_sync

# Start, two notebook servers, two clusters, stop: 20 s on two idle cores, and several times that on busy ones.
pytestmark = pytest.mark.timeout(400)

START = Path(__file__).parents[2] / "deploy" / "jupyterhub" / "demo" / "start.py"
START_SECONDS = 90.0
STOP_SECONDS = 120.0

FOUR_LINES = """
from {package} import Gateway
cluster = Gateway().new_cluster()
cluster.scale(1)
client = cluster.get_client()
"""
COMPUTES = """
import sys, dask.array
where = client.submit(lambda: __import__("sys").executable).result(timeout=60)
print("computed", int(dask.array.arange(1000, chunks=100).sum().compute()), where == sys.executable)
"""
LISTS = "print('listed', len(Gateway().list_clusters()))"
NAMES = "print('name', cluster.name)"


class Terminal:
    """The terminal in which the platform runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._output = folder.with_suffix(".txt")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(START), "--port", "0", "--folder", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        """What stands there."""
        return self._output.read_text()

    def found(self, pattern: str) -> str:
        """Return what the pattern's group found."""
        match = re.search(pattern, self.text)
        assert match, self.text
        return match[1]

    def left(self) -> list[str]:
        """Return the command lines of the processes that are the platform's."""
        return [line for _, line in _processes(str(self.folder))]

    def end(self) -> None:
        """End whatever is left, when a test has failed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(STOP_SECONDS)
        for pid, _ in _processes(str(self.folder)):
            os.kill(pid, signal.SIGKILL)


def _processes(mark: str) -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environ = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if line and (mark in line or mark in environ):  # a zombie has no command line
            yield int(entry.name), line


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A platform that says that it runs."""
    started = Terminal(tmp_path_factory.mktemp("demo") / "platform")
    try:
        eventually_sync(
            lambda: "Ctrl-C ends everything" in started.text or started.process.poll() is not None,
            START_SECONDS,
            "the platform runs",
        )
        assert started.process.poll() is None, started.text
        yield started
    finally:
        started.end()


async def test_a_wrong_password_is_refused(terminal: Terminal) -> None:
    """The password is of this start alone."""
    async with Person(terminal.found(r"is at (http://\S+)"), "alice", "password-of-the-hub") as somebody:
        assert await somebody.log_in() == 403


async def test_two_people_compute_and_see_nothing_of_each_other(terminal: Terminal) -> None:
    """With either client, without an argument, and by JupyterLab's Dask panel; then Ctrl-C leaves nothing."""
    address = terminal.found(r"is at (http://\S+)")
    password = terminal.found(r"with the password (\S+)")

    async with Person(address, "alice", password) as alice, Person(address, "bob", password) as bob:
        assert await alice.log_in() == 200
        await alice.start_server()
        hers = await alice.start_kernel()
        assert "computed 499500 True" in await alice.run_cell(hers, FOUR_LINES.format(package="tidegate") + COMPUTES)
        name = (await alice.run_cell(hers, NAMES)).split()[-1]
        assert await alice.run_cell(hers, LISTS) == "listed 1\n"

        assert await bob.log_in() == 200
        await bob.start_server()
        his = await bob.start_kernel()
        assert await bob.run_cell(his, f"from tidegate import Gateway\n{LISTS}") == "listed 0\n"
        ran = await bob.run_cell(his, FOUR_LINES.format(package="dask_gateway") + COMPUTES)
        assert "computed 499500 True" in ran
        assert await bob.run_cell(his, LISTS) == "listed 1\n"

        panel = await bob.ask_server("PUT", "/dask/clusters/")
        assert panel["scheduler_address"].startswith("gateway://"), panel
        assert await bob.run_cell(his, LISTS) == "listed 2\n"
        assert await alice.run_cell(hers, LISTS) == "listed 1\n"

        await alice.open_console()
        await bob.open_console()
        page = f"{address}/services/dask-gateway/clusters/{name}"
        async with alice.http.get(page) as seen, bob.http.get(page) as unseen:
            assert (seen.status, unseen.status) == (200, 404)

    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(STOP_SECONDS) == 0, terminal.text
    await eventually(lambda: not terminal.left(), 30, f"nothing is left: {terminal.left()}")
