"""Counting and cutting connections."""

from __future__ import annotations

from functools import partial

import pytest

from tidegate.proxy.connections import Admission, ClusterConnections, Waiting


def test_counts_follow_what_is_open():
    """A cluster without connections is not in the counts."""
    changes: list[int] = []
    connections = ClusterConnections(lambda: changes.append(1))
    first = connections.add("a", lambda: None)
    connections.add("a", lambda: None)
    last = connections.add("b", lambda: None)
    assert connections.counts() == {"a": 2, "b": 1}

    first()
    first()
    last()

    assert connections.counts() == {"a": 1}
    assert len(changes) == 5


def test_a_cut_reaches_every_connection_of_a_cluster():
    """... and of no other."""
    cut: list[str] = []
    connections = ClusterConnections()
    for name in ("a1", "a2"):
        connections.add("a", lambda name=name: cut.append(name))
    connections.add("b", lambda: cut.append("b"))

    connections.cut("a")
    assert sorted(cut) == ["a1", "a2"]

    connections.cut("unknown")
    connections.cut_all()
    assert "b" in cut


def test_one_address_cannot_take_every_slot():
    """The cap per address leaves room for others; the cap in all is for everyone."""
    admission = Admission(total=3, per_address=2)
    first = admission.admit("10.0.0.1")
    assert first is not None
    assert admission.admit("10.0.0.1") is not None
    assert admission.admit("10.0.0.1") is None
    assert admission.admit("10.0.0.2") is not None
    assert admission.admit("10.0.0.3") is None

    first()
    first()

    assert admission.count == 2
    assert admission.admit("10.0.0.3") is not None


def test_an_ipv6_client_is_its_network():
    """Whoever has a /64 has 2**64 addresses; a mapped IPv4 address is an IPv4 address."""
    admission = Admission(total=10, per_address=1)
    assert admission.admit("2001:db8::1") is not None
    assert admission.admit("2001:db8::2") is None
    assert admission.admit("2001:db8:0:1::1") is not None
    assert admission.admit("::ffff:10.0.0.1") is not None
    assert admission.admit("10.0.0.1") is None
    assert admission.admit("fe80::1%eth0") is not None


@pytest.mark.parametrize(
    ("address", "per_address"), [("127.0.0.1", 1), ("::1", 1), ("::ffff:127.0.0.1", 1), ("10.0.0.1", None)]
)
def test_where_all_have_one_address_it_does_not_count(address: str, per_address: int | None):
    """On this machine, and behind another proxy: only the cap in all is left."""
    admission = Admission(total=3, per_address=per_address)

    assert [admission.admit(address) is not None for _ in range(4)] == [True, True, True, False]


def test_when_all_slots_are_taken_one_that_can_be_spared_makes_room():
    """Only if there is none, the newcomer is refused."""
    spared = [True, False]
    admission = Admission(total=1, make_room=lambda: spared.pop(0))

    assert [admission.admit("10.0.0.1") is not None for _ in range(3)] == [True, True, False]


def test_who_has_waited_longest_makes_room():
    """Not who has spoken; and nobody twice."""
    ended: list[str] = []
    waiting = Waiting(2)
    heard = [waiting.add(partial(ended.append, name)) for name in "abc"]
    assert ended == ["a"]

    heard[0]()
    heard[1]()
    waiting.add(partial(ended.append, "d"))
    assert ended == ["a"]

    assert waiting.make_room()
    assert waiting.make_room()
    assert not waiting.make_room()
    assert ended == ["a", "c", "d"]
