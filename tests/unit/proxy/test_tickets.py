"""One-time tickets are used once, by whichever process, and what was used is forgotten in time."""

from __future__ import annotations

import os

from tidegate.proxy.tickets import UsedTickets


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_ticket_is_used_once(tmp_path):
    """The second time it is worth nothing."""
    used = UsedTickets(tmp_path)

    assert used.claim("word", 9e9)
    assert not used.claim("word", 9e9)
    assert used.claim("another", 9e9)


def test_every_process_knows(tmp_path):
    """What one proxy process has accepted, another refuses; also one that started later."""
    assert UsedTickets(tmp_path).claim("word", 9e9)
    assert not UsedTickets(tmp_path).claim("word", 9e9)


def test_the_word_itself_is_not_written_down(tmp_path):
    """A ticket that is in use somewhere must not be found in a folder."""
    UsedTickets(tmp_path).claim("word", 9e9)

    assert not any("word" in name for _, _, names in os.walk(tmp_path) for name in names)
    assert (tmp_path / "used-tickets").stat().st_mode & 0o777 == 0o700


def test_what_has_expired_is_forgotten(tmp_path):
    """Neither memory nor the folder grows: an expired ticket is refused by its date anyway."""
    clock = Clock()
    used = UsedTickets(tmp_path, clock)
    for number in range(10):
        used.claim(str(number), clock.now + 60)
    clock.now += 200

    used.claim("new", clock.now + 60)

    assert len(os.listdir(tmp_path / "used-tickets")) == 1
    assert len(used._here) == 1


def test_a_folder_that_cannot_be_written_locks_nobody_out(tmp_path):
    """This process at least remembers."""
    (tmp_path / "used-tickets").write_text("a file where the folder should be")
    used = UsedTickets(tmp_path)

    assert used.claim("word", 9e9)
    assert not used.claim("word", 9e9)
