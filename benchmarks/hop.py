"""The hop: what it costs at the least to stand between a client and a scheduler.

    python -m benchmarks.hop [--rounds N]

64 bytes go there and back, without TLS, between two processes: direct, through Tidegate's own ``Splice``, and through
``hop.c``, which waits, receives and sends and does nothing else: no routes, no limits, nobody who could go on with its
connections. It is compiled with ``cc``. From it follows which added delay can be reached on a machine at all, in any
language. All ways take turns, and each has one connection; the figures are medians of the rounds' medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from benchmarks.figures import percentile
from tidegate.proxy.holding import Holding
from tidegate.proxy.pipes import PipePool
from tidegate.proxy.splice import Splice

SIZE = 64
TRIPS = 500
SOURCE = Path(__file__).with_name("hop.c")


def tune(sock: socket.socket) -> None:
    """Send small pieces at once."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def listen() -> socket.socket:
    """Listen on loopback, and say on which port."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    return listener


def echo() -> None:
    """Serve as a scheduler that sends back what it gets."""
    listener = listen()
    while True:
        sock, _ = listener.accept()
        tune(sock)
        threading.Thread(target=_send_back, args=(sock,), daemon=True).start()


def _send_back(sock: socket.socket) -> None:
    while data := sock.recv(2**16):
        sock.sendall(data)


async def splice(port: int) -> None:
    """Forward to ``port`` as a proxy process does."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        pipes = PipePool(Holding(Path(folder)))
        listener = listen()
        listener.setblocking(False)
        while True:
            client, _ = await loop.sock_accept(listener)
            server = socket.create_connection(("127.0.0.1", port))
            for sock in (client, server):
                tune(sock)
                sock.setblocking(False)
            Splice(client, server, pipes, 1, lambda: None).start()


@contextlib.contextmanager
def serving(*command: str) -> Iterator[int]:
    """Run a program that prints its port and serves until it is killed; yield the port."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def measure(rounds: int) -> dict[str, float]:
    """Return the median round trip of each way, in seconds."""
    me = (sys.executable, "-m", "benchmarks.hop")
    with contextlib.ExitStack() as stack:
        hop = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "hop"
        subprocess.run(["cc", "-O2", "-o", str(hop), str(SOURCE)], check=True)
        target = stack.enter_context(serving(*me, "--echo"))
        ports = {
            "direct": target,
            "through Tidegate's `Splice`": stack.enter_context(serving(*me, "--splice", str(target))),
            "through `hop.c`, by `splice`": stack.enter_context(serving(str(hop), "splice", str(target))),
            "through `hop.c`, by `recv` and `send`": stack.enter_context(serving(str(hop), "copy", str(target))),
        }
        socks = {way: stack.enter_context(socket.create_connection(("127.0.0.1", ports[way]))) for way in ports}
        for sock in socks.values():
            tune(sock)
        medians: dict[str, list[float]] = {way: [] for way in ports}
        for _ in range(rounds):
            for way, sock in socks.items():
                medians[way].append(percentile([_trip(sock) for _ in range(TRIPS)], 0.5))
    return {way: percentile(values, 0.5) for way, values in medians.items()}


def _trip(sock: socket.socket) -> float:
    began = time.perf_counter()
    sock.sendall(bytes(SIZE))
    sock.recv(SIZE)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print, or be one of those who are measured."""
    parser = argparse.ArgumentParser(prog="benchmarks.hop", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--splice", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.echo:
        echo()
    if arguments.splice:
        uvloop.run(splice(arguments.splice))
    found = measure(arguments.rounds)
    print("| 64 bytes there and back | p50 | added |\n| --- | --- | --- |")
    for way, seconds in found.items():
        print(f"| {way} | {seconds * 1e6:.1f} µs | {(seconds - found['direct']) * 1e6:.1f} µs |")


if __name__ == "__main__":
    main()
