"""What of a flood reaches the audit log."""

from __future__ import annotations

from dataclasses import replace

from tidegate.control.tally import MINUTE, PER_SOURCE, STRANGERS, Tally
from tidegate.model.audit import Deed, Entry, Outcome

REFUSED = Entry(0.0, Deed.READ, Outcome.REFUSED, "unauthenticated", address="192.0.2.7")


def test_what_happens_once_is_written_at_once():
    """Different entries are each told when they happen."""
    tally, other = Tally(), replace(REFUSED, address="192.0.2.8")

    assert tally.add(REFUSED) == [REFUSED]
    assert tally.add(other) == [other]
    assert tally.end() == []


def test_equal_entries_of_a_minute_are_counted():
    """The first is written, one entry tells of the others when the minute is over, and then it begins anew."""
    tally = Tally()
    written = [entry for second in range(50) for entry in tally.add(replace(REFUSED, at=float(second)))]
    assert written == [REFUSED]

    assert tally.turn(MINUTE - 1) == []
    assert tally.turn(MINUTE) == [replace(REFUSED, at=49.0, times=49)]
    again = replace(REFUSED, at=MINUTE + 1)
    assert tally.add(again) == [again]


def test_the_next_entry_brings_what_was_counted_before():
    """Nobody has to turn the minute: whatever happens next does."""
    tally = Tally()
    tally.add(REFUSED)
    tally.add(REFUSED)

    later = replace(REFUSED, at=MINUTE)
    assert tally.add(later) == [replace(REFUSED, times=1), later]


def test_who_varies_what_they_try_is_counted_in_the_end():
    """A thousand invented names are so many entries, and one that says how many more."""
    tally = Tally()
    written = [entry for n in range(1000) for entry in tally.add(replace(REFUSED, principal=f"name{n}"))]

    assert len(written) == PER_SOURCE
    (rest,) = tally.end()
    assert rest == Entry(0.0, Deed.VARIOUS, Outcome.REFUSED, address="192.0.2.7", times=1000 - PER_SOURCE)


def test_whoever_has_an_ipv6_network_is_one_source():
    """A /64 holds more addresses than there are bytes on earth."""
    tally = Tally()
    written = [entry for n in range(1000) for entry in tally.add(replace(REFUSED, address=f"2001:db8::{n:x}"))]

    assert len(written) == PER_SOURCE
    assert [(entry.address, entry.times) for entry in tally.end()] == [("2001:db8::/64", 1000 - PER_SOURCE)]


def test_strangers_from_everywhere_are_bounded_together():
    """From ten thousand addresses come no more entries than from some hundred."""
    tally = Tally()
    written = [
        entry for n in range(10_000) for entry in tally.add(replace(REFUSED, address=f"10.0.{n // 256}.{n % 256}"))
    ]

    assert len(written) == STRANGERS
    (rest,) = tally.end()
    assert (rest.deed, rest.address, rest.times) == (Deed.VARIOUS, "", 10_000 - STRANGERS)


def test_known_people_are_not_crowded_out():
    """What somebody did who has proved who they are is told, however many strangers knock."""
    tally = Tally()
    for n in range(STRANGERS + 5):
        tally.add(replace(REFUSED, address=f"10.0.{n // 256}.{n % 256}"))

    logs = Entry(0.0, Deed.LOGS_READ, Outcome.DONE, principal="alice", method="token", address="10.0.0.1")

    assert tally.add(logs) == [logs]


def test_known_people_are_bounded_too():
    """One with a token cannot fill the disk by reading logs of names that they invent."""
    tally = Tally()
    entry = Entry(0.0, Deed.LOGS_READ, Outcome.REFUSED, "not-found", principal="mallory", method="token")
    written = [told for n in range(1000) for told in tally.add(replace(entry, cluster=f"c{n}", address=f"10.0.0.{n}"))]

    assert len(written) == PER_SOURCE
    (rest,) = tally.end()
    assert (rest.principal, rest.deed, rest.times) == ("mallory", Deed.VARIOUS, 1000 - PER_SOURCE)


def test_noise_does_not_hide_what_somebody_did():
    """Who tries twenty names first, and then reads what they came for, is told of by deed and cluster."""
    tally = Tally()
    known = Entry(0.0, Deed.CREDENTIALS_READ, Outcome.REFUSED, "not-found", principal="alice", method="token")
    for number in range(PER_SOURCE + 1):
        tally.add(replace(known, cluster=f"c{number}"))

    done = replace(known, outcome=Outcome.DONE, code="", cluster="real")
    assert tally.add(done) == [done]
