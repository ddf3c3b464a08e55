"""Keeping processes running, and ending them."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support import eventually
from tidegate.server import children


def program(folder: Path, name: str, code: str) -> str:
    (folder / f"{name}.py").write_text(code)
    return name


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def start(code: str, text: str = "") -> object:
        return children.start(program(tmp_path, "child", code), ["argument"], log=tmp_path / "child.log", text=text)

    return start


async def test_what_a_child_says_is_in_its_log_and_its_end_in_words(
    tmp_path: Path, started: Callable[..., children.subprocess.Popen[bytes]]
) -> None:
    """Standard input carries the settings, standard error goes to the file."""
    child = started("import sys; print(sys.stdin.read(), sys.argv[1], file=sys.stderr); sys.exit(3)", text="settings")

    assert await children.wait(child) == 3
    assert children.last_words(tmp_path / "child.log") == "settings argument"
    assert (tmp_path / "child.log").stat().st_mode & 0o777 == 0o600


async def test_a_child_that_does_not_obey_is_killed(
    tmp_path: Path, started: Callable[..., children.subprocess.Popen[bytes]]
) -> None:
    """The end of the gateway does not wait for one that hangs."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = started(code)
    await eventually(lambda: children.last_words(tmp_path / "child.log") == "up")

    await children.end(child, patience=0.1)

    assert children.describe_end(child.returncode) == "killed by SIGKILL"


async def test_a_child_is_in_a_session_of_its_own(started: Callable[..., children.subprocess.Popen[bytes]]) -> None:
    """Ctrl-C in the terminal does not reach it."""
    child = started("import time; time.sleep(60)")
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
    finally:
        child.kill()
        await children.wait(child)


async def test_waiting_works_for_the_children_of_others() -> None:
    """Proxies of an earlier supervisor are nobody's children that we know of."""
    grandchild = "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid)"
    made = await asyncio.create_subprocess_exec(
        children.sys.executable, "-c", grandchild, stdout=asyncio.subprocess.PIPE
    )
    pid = int((await made.communicate())[0])
    waiting = asyncio.create_task(children.wait_for_pid(pid))
    await asyncio.wait([waiting], timeout=0.05)
    assert not waiting.done()

    os.kill(pid, signal.SIGKILL)

    await asyncio.wait_for(waiting, 20)
    await children.wait_for_pid(pid)


async def test_pauses_between_starts_grow_and_are_told() -> None:
    """A process that cannot run is not started ten times a second for ever."""
    said: list[str] = []
    ends: list[Callable[[], Awaitable[str]]] = []

    async def end_at_once() -> str:
        ends.append(end_at_once)
        if len(ends) == 4:
            raise KeyError("enough")
        return "exit code 1"

    with pytest.raises(KeyError):
        await children.keep_running("proxy", end_at_once, said.append, first_pause=0.001)

    assert said == [
        f"The proxy process ended (exit code 1); it is started again in {pause} s."
        for pause in ("0.001", "0.002", "0.004")
    ]


async def test_a_start_that_fails_is_an_end_like_any_other() -> None:
    """Without a descriptor or a process to be had, the supervisor says so and tries again."""
    said: list[str] = []

    async def find_no_descriptor() -> str:
        if said:
            raise KeyError("enough")
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with pytest.raises(KeyError):
        await children.keep_running("proxy", find_no_descriptor, said.append, first_pause=0.001)

    assert "it could not be started: Too many open files" in said[0]
