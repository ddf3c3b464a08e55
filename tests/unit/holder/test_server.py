"""The holder's own life: what it answers, what it bears, and when it ends."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy_rig import temporary_folder
from tests.support import eventually_sync
from tidegate.holder.__main__ import listen
from tidegate.holder.server import AGAIN_SECONDS, Holder
from tidegate.wire.holder import SOCKET, close_all, connect, make_memory, receive, send


class Running:
    """A holder in a thread."""

    def __init__(self, folder: Path, *, listener: socket.socket | None = None, alone_seconds: float = 60) -> None:
        self.folder = folder
        self._server = listen(str(folder))
        self._holder = Holder(self._server, listener, alone_seconds)
        self._thread = threading.Thread(target=self._holder.run)
        self._thread.start()

    def link(self) -> socket.socket:
        """Connect to it."""
        link = connect(self.folder)
        link.settimeout(10)
        return link

    def listener(self) -> socket.socket | None:
        """Ask for the listening socket."""
        with self.link() as link:
            send(link, {"op": "which"})
            answer = receive(link)
        assert answer is not None
        return socket.socket(fileno=answer[1][0]) if answer[1] else None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    def end(self) -> None:
        """Tell it to end, and wait."""
        if not self.over:
            with self.link() as link:
                send(link, {"op": "end"})
        self._thread.join(10)
        self._server.close()
        assert self.over


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Running]:
    """Return a holder without a listener."""
    running = Running(tmp_path)
    yield running
    running.end()


def test_it_has_the_listener_that_it_was_told_of_last(holder: Running):
    """Of proxies it takes one only when it has none; the supervisor's word counts always."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [sock.getsockname()[1] for sock in sockets]
    assert holder.listener() is None
    with holder.link() as link:
        for op, sock in zip(("listener", "listener"), sockets[:2], strict=True):
            send(link, {"op": op}, [sock.fileno()])
        send(link, {"op": "which"})
        _, descriptors = receive(link) or ({}, [])
        with socket.socket(fileno=descriptors[0]) as first:
            assert first.getsockname()[1] == ports[0]
        send(link, {"op": "listen"}, [sockets[2].fileno()])
    for sock in sockets:
        sock.close()

    answer = holder.listener()

    assert answer is not None
    assert answer.getsockname()[1] == ports[2]
    answer.close()


def test_nonsense_ends_nobody_but_its_sender(holder: Running):
    """What it cannot understand is logged, and that process has to begin anew."""
    with holder.link() as good, holder.link() as bad:
        for message in ({"op": "sing"}, {}, {"op": "drop", "id": 1}, {"op": "accept", "offer": 3}):
            with holder.link() as link:
                send(link, message)
                assert receive(link) is None
        bad.send(b"{")
        assert receive(bad) is None
        send(good, {"op": "which"})
        assert receive(good) == ({"op": "listener"}, [])


def leave_connection(holder: Running) -> tuple[socket.socket, socket.socket]:
    """Be a proxy that dies with a connection; return the connection's two ends."""
    client, near = socket.socketpair()
    far, server = socket.socketpair()
    memory = make_memory()
    os.pwrite(memory, (1).to_bytes(8, "little"), 0)
    with holder.link() as link:
        send(link, {"op": "proxy", "takes": False}, [memory])
        send(link, {"op": "hold", "id": 1, "cluster": "abc"}, [near.fileno(), far.fileno()])
    near.close()
    far.close()
    os.close(memory)
    return client, server


def test_what_a_process_leaves_is_offered_to_another(holder: Running):
    """And to a third one when the second one died before it accepted."""
    client, server = leave_connection(holder)
    for _ in range(2):
        memory = make_memory()
        with holder.link() as next_one:
            send(next_one, {"op": "proxy", "takes": True}, [memory])
            offer, descriptors = receive(next_one) or ({}, [])
            assert (offer["op"], offer["cluster"], offer["carries"], len(descriptors)) == ("take", "abc", [], 2)
            client.send(b"word")
            assert os.read(descriptors[0], 10) == b"word"
            close_all(descriptors)
        os.close(memory)
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.close()
    server.close()


def test_who_refuses_is_left_in_peace_for_a_moment(holder: Running):
    """The only proxy has no descriptors left: it is asked again and again, but not without a pause."""
    ends = leave_connection(holder)
    memory = make_memory()
    with holder.link() as link:
        send(link, {"op": "proxy", "takes": True}, [memory])
        for _ in range(3):
            offered = time.monotonic()
            offer, descriptors = receive(link) or ({}, [])
            close_all(descriptors)
            send(link, {"op": "refuse", "offer": offer["offer"]})
        assert time.monotonic() - offered >= 0.9 * AGAIN_SECONDS
    os.close(memory)
    for sock in ends:
        sock.close()


def test_it_ends_when_nobody_has_come_for_long(tmp_path: Path):
    """And not before: whoever is connected needs it."""
    running = Running(tmp_path, alone_seconds=0.2)
    with running.link() as link:
        assert not running.over
        send(link, {"op": "which"})
        receive(link)

    eventually_sync(lambda: running.over)
    running.end()


def test_a_new_supervisor_needs_it_whatever_the_one_before_said(tmp_path: Path):
    """It ends when nobody is connected any more, unless somebody has asked for the listener since."""
    running = Running(tmp_path)
    with running.link() as proxy:
        with running.link() as old:
            send(old, {"op": "end"})
        assert running.listener() is None
        send(proxy, {"op": "retire"})
    assert running.listener() is None

    running.end()


def test_it_is_there_for_its_user_only_and_in_any_folder(tmp_path: Path):
    """0600, with a path longer than a socket's address; what an earlier one left is replaced."""
    folder = temporary_folder(tmp_path, 180)
    (folder / SOCKET).touch()
    running = Running(folder)

    assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o600
    assert running.listener() is None
    running.end()
