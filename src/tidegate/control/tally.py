"""Keeps the audit log small when somebody knocks at a door all night.

What can be repeated without end, a refusal above all, is written the first time that it happens in a minute. Equal
entries of the same minute are counted, and when the minute is over one entry tells how many more there were.

Who varies what they try is bounded too: of each *source* so many different entries a minute are told apart, of all
strangers together as many; the rest is one entry a minute and source, ``various``. What known people have done is
always told apart: there is as much of it as there are clusters. A source is a person who has proved
who they are, else a network address. So the log grows by a few megabytes an hour at the most, whoever attacks from
however many addresses, and what known people do is never crowded out by strangers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tidegate.model.audit import Deed, Entry, Outcome
from tidegate.wire.addresses import network_of

MINUTE = 60.0

PER_SOURCE = 20
"""Different entries of one source in a minute: a person who mistypes makes three, a program in a loop ten."""

STRANGERS = 300
"""Different entries of all who have not proved who they are, in a minute: about 100 MB a day if that never ends."""


class Tally:
    """Counts what happens within a minute."""

    def __init__(self) -> None:
        self._minute = 0.0
        # By the entry without its time and number: how often it came again, told as an entry.
        self._again: dict[Entry, Entry | None] = {}
        self._kinds: Counter[str] = Counter()
        self._strange = 0

    def add(self, entry: Entry) -> list[Entry]:
        """Take an entry; return those that are to be written now."""
        over = self.turn(entry.at)
        key = replace(entry, at=0.0)
        if key not in self._again:
            if self._may_be_told(entry):
                self._again[key] = None
                return [*over, entry]
            key = self._rest(entry)
        before = self._again.get(key)
        self._again[key] = replace(key, at=entry.at, times=before.times + 1 if before else 1)
        return over

    def turn(self, now: float) -> list[Entry]:
        """Return what was counted, if its minute is over."""
        minute = now // MINUTE
        if minute == self._minute:
            return []
        self._minute = minute
        return self.end()

    def end(self) -> list[Entry]:
        """Return what was counted until now, and begin anew."""
        counted = [entry for entry in self._again.values() if entry is not None]
        self._again, self._kinds, self._strange = {}, Counter(), 0
        return counted

    def _may_be_told(self, entry: Entry) -> bool:
        if entry.method and entry.outcome is Outcome.DONE:
            return True  # there are as many as clusters, and their noise must not hide what somebody did
        source = _source(entry)
        if self._kinds[source] >= PER_SOURCE or (not entry.method and self._strange >= STRANGERS):
            return False
        self._kinds[source] += 1
        self._strange += not entry.method
        return True

    def _rest(self, entry: Entry) -> Entry:
        """Return the entry under which those of a source are counted that are too many."""
        rest = Entry(0.0, Deed.VARIOUS, entry.outcome)
        if entry.method:
            return replace(rest, principal=entry.principal, actor=entry.actor, method=entry.method)
        # Of strangers only those addresses are named of which something else is told: that bounds their number.
        source = _source(entry)
        return replace(rest, address=source) if self._kinds[source] else rest


def _source(entry: Entry) -> str:
    """Return what stands for one who knocks: whoever has one IPv6 address has its whole /64."""
    return f"{entry.actor} {entry.principal}" if entry.method else network_of(entry.address)
