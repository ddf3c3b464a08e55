"""Which listening sockets of this machine are whose."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

from tests.support import eventually_sync
from tidegate.backends.local.sockets import TABLE, are_held, find_listeners, read_listeners

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LINE = "{sl:4d}: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 {inode} 1 0 100\n"


def table(*sockets: tuple[str, str, int]) -> list[str]:
    """Return what ``/proc/net/tcp`` says of sockets: local address, state, inode."""
    lines = (LINE.format(sl=n, local=s[0], state=s[1], inode=s[2]) for n, s in enumerate(sockets))
    return [HEAD, *lines]


def test_only_what_listens_at_this_very_address_counts() -> None:
    """Not a connection from there, not another port or address: the proxy would reach none of them."""
    local, elsewhere, everywhere = ("0100007F:1F90", "0200007F:1F90", "00000000:1F90")
    next_port = "0100007F:1F91"
    text = table((elsewhere, "0A", 1), (local, "0A", 3), (everywhere, "0A", 4), (next_port, "0A", 5), (local, "01", 2))

    assert read_listeners(text, "127.0.0.1", [8080]) == {8080: {"socket:[3]"}}
    assert read_listeners(text, "127.0.0.1", [8082]) == {8082: set()}
    assert read_listeners(table(), "127.0.0.1", []) == {}


def test_the_kernel_says_what_its_table_says() -> None:
    """The sockets that listen there, and not a connection from there, another address or another port."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as one:
        port = one.getsockname()[1]
        with (
            socket.create_server(("127.0.0.1", port), reuse_port=True),
            socket.create_server(("127.0.0.2", port)),
            socket.create_connection(("127.0.0.1", port)),
        ):
            found = find_listeners("127.0.0.1", port)
            with TABLE.open() as table:
                assert read_listeners(table, "127.0.0.1", [port]) == {port: found}
            assert len(found) == 2
            assert len(find_listeners("127.0.0.2", port)) == 1
    assert find_listeners("127.0.0.1", port) == set()


def test_a_port_is_held_by_whoever_has_its_socket_open() -> None:
    """Every port must be; a port on which nobody listens, or one of which somebody else has a share, is not."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0), reuse_port=True) as two:
        ports = [listener.getsockname()[1] for listener in (one, two)]
        own = [os.getpid()]
        assert are_held("127.0.0.1", ports, own)
        assert are_held("127.0.0.1", ports[:1], [2**22 + 1, *own]), "a process that is gone is passed over"
        assert not are_held("127.0.0.1", ports, [])
        child = os.fork()
        if child == 0:
            one.close()
            two.close()
            with socket.create_server(("127.0.0.1", ports[1]), reuse_port=True):
                signal.pause()
        try:
            eventually_sync(lambda: not are_held("127.0.0.1", ports, own), what="the child shares a port")
            assert are_held("127.0.0.1", ports, [*own, child])
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        port = ports[0]
    assert not are_held("127.0.0.1", [port], own)


def test_processes_are_asked_only_until_all_is_known() -> None:
    """Who stands first is the likely one; to look at all others takes time."""

    def asked() -> Iterator[int]:
        yield os.getpid()
        raise AssertionError("asked for another process")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert are_held("127.0.0.1", [listener.getsockname()[1]], asked())
