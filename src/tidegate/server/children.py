"""Keeping a process running: start it, wait for its end, say so, start it again after a pause that grows.

Every child gets a session of its own, for Ctrl-C reaches the whole foreground group of a terminal and only the
supervisor is meant by it. What it prints goes to a file in the data folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds before the first new start, and at the most. The pause doubles with each end that follows soon."""
SOON = 30.0
"""Seconds that a process must have lived for its end not to count with those before."""
PATIENCE = 5.0
"""Seconds between asking a process to end and killing it."""
LOG_LIMIT = 20 * 2**20
"""Bytes of a log file at a start of the gateway, above which it is set aside (and the one before is dropped)."""

TAIL = 65536
"""Bytes of a log's end that are read: a line with a traceback in it fits."""

Say = Callable[[str], None]


def open_log(path: Path) -> int:
    """Open a log file to append to; return its descriptor."""
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        path.replace(path.with_suffix(".log.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def start(
    module: str, arguments: Sequence[str], *, log: Path, descriptors: Sequence[int] = (), text: str = ""
) -> subprocess.Popen[bytes]:
    """Start ``python -m module`` in a session of its own, and write ``text`` to its standard input.

    Not by asyncio's subprocesses: those are killed when their loop closes, and a proxy has to live on.
    """
    output = open_log(log)
    try:
        process = subprocess.Popen(
            # -P: what lies in the current folder must not take the place of a module of ours.
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE if text else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=descriptors,
            start_new_session=True,
        )
    finally:
        os.close(output)
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(text.encode())
    return process


async def wait_for_pid(pid: int) -> None:
    """Wait until a process has ended, whoever's child it is."""
    while True:
        try:
            descriptor = os.pidfd_open(pid)
            break
        except ProcessLookupError:
            return
        except OSError:  # no descriptor is left, for now: that is no reason to take it for ended
            await asyncio.sleep(PAUSE)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def wait(process: subprocess.Popen[bytes]) -> int:
    """Wait until a child has ended, and return its exit code (negative: the signal that killed it)."""
    if process.poll() is None:
        await wait_for_pid(process.pid)
    return process.wait()


async def keep_running(
    name: str, run_once: Callable[[], Awaitable[str]], say: Say, *, first_pause: float = PAUSE
) -> None:
    """Run something again and again until cancelled; ``run_once`` returns how it ended, in words.

    An ``OSError`` is an end too: no descriptor, memory or process was to be had just then.
    """
    pause = first_pause
    while True:
        began = time.monotonic()
        try:
            end = await run_once()
        except OSError as error:
            end = f"it could not be started: {error.strerror or error}"
        if time.monotonic() - began > SOON:
            pause = first_pause
        say(f"The {name} process ended ({end}); it is started again in {pause:g} s.")
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def end(process: subprocess.Popen[bytes], patience: float = PATIENCE) -> None:
    """Ask a child to end, and kill it if it does not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(wait(process), patience)
    except TimeoutError:
        process.kill()
        await wait(process)


def describe_end(code: int) -> str:
    """Return how a process ended: its exit code, or the name of the signal that killed it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def last_words(log: Path) -> str:
    """Return what a process said before its end: the last line of its log, or the message in it."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    line = lines[-1] if lines else ""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    return str(entry.get("message", "")).strip() if isinstance(entry, dict) else line
