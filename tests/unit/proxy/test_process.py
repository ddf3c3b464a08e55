"""A proxy as its own process: its command line, what it survives, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.proxy_rig import SECRET, TICKET_KEY, Authority, ControlEnd, client_hello, echo, until_end
from tests.support import eventually, eventually_sync
from tidegate.wire.proxy import Route

Start = Any


class Started:
    """A proxy process and what it listens on."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, run_dir: Path) -> None:
        self.process = process
        self.port = port
        self.channel = run_dir / f"proxy-{process.pid}.sock"
        eventually_sync(lambda: self.channel.exists() or process.poll() is not None, what="the proxy has started")

    def processor_seconds(self) -> float:
        """Return the processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """Return how many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts proxy processes on one listener, as a supervisor does."""
    processes: list[subprocess.Popen[bytes]] = []
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    (tmp_path / "run").mkdir()

    def start(*, output: Any = subprocess.DEVNULL, **settings: Any) -> Started:
        settings.setdefault("listen_fds", [listener.fileno()])
        text = json.dumps({"run_dir": str(tmp_path / "run"), **settings})
        process = subprocess.Popen(
            [sys.executable, "-m", "tidegate.proxy", "-"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        processes.append(process)
        assert process.stdin is not None
        with process.stdin:
            process.stdin.write(text.encode())
        return Started(process, listener.getsockname()[1], tmp_path / "run")

    yield start
    listener.close()
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
async def scheduler(tmp_path: Path) -> Any:
    """Return a route to a server that echoes over TLS."""
    authority = Authority()
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=authority.server_context(tmp_path, "abc"))
    route = Route("abc", "127.0.0.1", server.sockets[0].getsockname()[1], None, SECRET, authority.pem, TICKET_KEY)
    yield route, authority
    server.close()


async def connect(started: Started, authority: Authority) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the cluster."""
    return await asyncio.open_connection(
        "127.0.0.1", started.port, ssl=authority.client_context(), server_hostname="daskgateway-abc"
    )


async def test_it_survives_its_parent_and_its_output(start: Start, scheduler: Any):
    """Whoever started it is gone, its log is a broken pipe, control is killed: connections go on."""
    route, authority = scheduler
    reading, writing = os.pipe()
    started = start(output=writing, log_level="DEBUG")
    os.close(writing)
    control = await ControlEnd.connect(started.channel)
    await control.ask("replace", routes=[route.to_json()])
    reader, writer = await connect(started, authority)
    os.close(reading)
    control.close()
    started.process.send_signal(signal.SIGHUP)

    for number in range(20):
        _, stranger = await asyncio.open_connection("127.0.0.1", started.port)
        stranger.close()
        writer.write(b"%02d" % number)
        assert await asyncio.wait_for(reader.readexactly(2), 20) == b"%02d" % number
    assert os.getsid(started.process.pid) == started.process.pid
    assert started.process.poll() is None
    writer.close()


async def test_a_killed_process_refuses_nobody(start: Start, scheduler: Any):
    """While one of two is killed under load, connections wait in the queue, and the other accepts them."""
    route, authority = scheduler
    first, second = start(), start()
    for started in (first, second):
        control = await ControlEnd.connect(started.channel)
        await control.ask("replace", routes=[route.to_json()])
        control.close()

    async def talk() -> bool:
        try:
            reader, writer = await connect(first, authority)
            writer.write(b"x")
            await reader.readexactly(1)
            writer.close()
        except (OSError, asyncio.IncompleteReadError):
            return False  # it was on its way through the killed process
        return True

    before = [await talk() for _ in range(10)]
    first.process.kill()
    first.process.wait()
    after = await asyncio.gather(*(talk() for _ in range(20)))

    assert all(before)
    assert all(after)


async def test_strangers_cost_nothing(start: Start, scheduler: Any):
    """Silent connections and half hellos use no processor time and leave no descriptor."""
    started = start(limits={"hello_seconds": 1.0})
    before = started.descriptors()
    lines = [await asyncio.open_connection("127.0.0.1", started.port) for _ in range(50)]
    hello = client_hello("daskgateway-abc")
    for number, (_, writer) in enumerate(lines):
        writer.write(hello[: number * 4])
    await eventually(lambda: started.descriptors() >= before + 50)
    spent = started.processor_seconds()
    since = time.monotonic()

    await eventually(lambda: started.descriptors() <= before, what="all are closed")

    assert time.monotonic() - since < 5
    assert started.processor_seconds() - spent < 0.3
    for _, writer in lines:
        writer.close()


async def test_strangers_write_nothing_into_the_log(start: Start, scheduler: Any, tmp_path: Path):
    """Names that nobody has, garbage and silence are told nobody; what is told is JSON of the process's role."""
    route, _ = scheduler
    log = tmp_path / "proxy.log"
    started = start(log_file=str(log))
    control = await ControlEnd.connect(started.channel)
    await control.ask("replace", routes=[route.to_json()])
    before = log.read_text()
    hello = client_hello("daskgateway-nobody")
    for words in (hello, b"\x16\x03\x01\x00\x05garbage", b"GET / HTTP/9.9\r\n\r\n", b"\x00\r\n\r\n"):
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", started.port)
            writer.write(words)
            await until_end(reader)
            writer.close()

    assert log.read_text() == before
    assert {json.loads(line)["process"] for line in before.splitlines()} == {"proxy"}
    assert log.stat().st_mode & 0o777 == 0o600
    control.close()


async def test_sigterm_ends_it(start: Start):
    """At once, when nothing is connected; and nothing is left in the folder."""
    started = start()
    started.process.terminate()

    assert started.process.wait(10) == 0
    assert not started.channel.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[]", "one JSON object"),
        ('{"run_dir": "/tmp", "listen_fds": [9], "max_conections": 1}', "unknown max_conections"),
        ('{"run_dir": "/tmp"}', "listen_fds"),
        ('{"run_dir": "/tmp", "listen_fds": [9], "limits": {"hello_seconds": 0}}', "hello_seconds"),
        ('{"run_dir": "/tmp", "listen_fds": [9], "tls_cert": "x"}', "belong together"),
        ('{"run_dir": "/tmp", "listen_fds": [9], "prefix": "x/"}', "prefix"),
        ('{"run_dir": "/tmp", "listen_fds": [9], "dashboard_hosts": "localhost"}', "dashboard_hosts"),
        ('{"run_dir": "/tmp", "listen_fds": [9], "frame_ancestors": "a; script-src *"}', "frame_ancestors"),
        ('{"listen_fds": [9]}', "run_dir"),
    ],
)
def test_settings_that_cannot_be_used_are_explained(tmp_path: Path, text: str, words: str):
    """One sentence, exit status 2."""
    path = tmp_path / "settings.json"
    path.write_text(text)
    ended = subprocess.run([sys.executable, "-m", "tidegate.proxy", str(path)], capture_output=True, text=True)

    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_listener_that_is_none_is_explained(tmp_path: Path):
    """A wrong descriptor is a sentence, not a traceback."""
    text = json.dumps({"run_dir": str(tmp_path)})
    ended = subprocess.run(
        [sys.executable, "-m", "tidegate.proxy", "-", "57"], input=text, capture_output=True, text=True
    )

    assert ended.returncode == 1
    assert "cannot run" in ended.stderr
    assert "Traceback" not in ended.stderr
