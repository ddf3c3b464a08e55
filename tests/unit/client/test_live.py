"""What a notebook shows of the end of a cluster, and when it is drawn again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from tidegate.client.keeping import ClusterEnding
from tidegate.client.live import SOON_STEP, LiveView, next_words
from tidegate.client.report import ClusterReport
from tidegate.client.widget import can_be_kept, status_rows

from .conftest import CLUSTER

NOW = datetime(2026, 11, 24, 12, 0)


class Loop:
    """An event loop whose time a test lets pass."""

    def __init__(self) -> None:
        self.timer: tuple[float, Callable[[], None]] | None = None

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Call it at once: there is one thread."""
        callback()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> object:
        """Remember it."""
        self.timer = (seconds, callback)
        return self.timer

    def remove_timeout(self, timer: object) -> None:
        """Forget it."""
        if timer is self.timer:
            self.timer = None

    def fire(self) -> None:
        """Let the time pass until then."""
        assert self.timer is not None
        timer, self.timer = self.timer, None
        timer[1]()


class Shown:
    """A cluster object, as far as it is drawn from the gateway's report."""

    def __init__(self, **changes: Any) -> None:
        body = CLUSTER | {"mine": True} | changes
        self._report = ClusterReport.from_json(body, public_address="", scheduler_netloc="proxy:8786")


def ending(code: str = "idle", minutes: float = 12, **more: Any) -> dict[str, Any]:
    """Return what the gateway says of an end."""
    at = (datetime.now() + timedelta(minutes=minutes, seconds=30)).timestamp()
    return {"code": code, "at": at, "why": "nothing runs on it", "announced": False} | more


def test_it_is_drawn_when_something_happens_and_as_the_time_gets_shorter():
    """Nobody is asked for it; and where no end is in sight, nothing turns."""
    loop, drawn = Loop(), []
    end: ClusterEnding | None = None
    view = LiveView(loop, lambda: drawn.append(end), lambda: end)
    assert loop.timer is None

    end = ClusterEnding("idle", datetime.now() + timedelta(minutes=12, seconds=30), "nothing runs on it", False)
    view.changed()
    assert drawn == [end]
    assert loop.timer is not None
    assert 29 < loop.timer[0] < 32
    loop.fire()
    assert drawn == [end, end]

    view.stop()
    assert loop.timer is None
    view.changed()
    assert loop.timer is None


@pytest.mark.parametrize(
    ("left", "seconds"), [(3630, 31), (120.5, 1.5), (60, 1), (59, SOON_STEP), (0, SOON_STEP), (-100, SOON_STEP)]
)
def test_when_the_words_change(left: float, seconds: float):
    """Each minute; in the last one every few seconds."""
    end = ClusterEnding("idle", NOW + timedelta(seconds=left), "", False)
    assert next_words(end, NOW) == pytest.approx(seconds)


def test_the_end_is_shown_with_its_time_and_reason():
    """In HTML and as text; for whose cluster it is, there is a row too."""
    theirs = Shown(ending=ending(), mine=False, owner="<b>bob</b>")
    assert "<strong>Ends:</strong> in 12 min (" in status_rows(theirs)
    assert "nothing runs on it" in status_rows(theirs)
    assert "&lt;b&gt;bob" in status_rows(theirs)
    assert repr(theirs._report).endswith("workers=1, ends in 12 min>")


def test_what_is_not_in_sight_is_not_shown():
    """Nor what is over: then it is told why."""
    assert status_rows(Shown()) is None
    assert "ends" not in repr(Shown()._report)
    reason = {"code": "idle", "message": "Stopped, since nothing ran", "log_tail": ""}
    over = Shown(state="stopped", target="stopped", ending=ending(), reason=reason)
    assert "<strong>Ended:</strong> Stopped, since nothing ran" in status_rows(over)
    assert "ends" not in repr(over._report)
    assert not can_be_kept(over)


@pytest.mark.parametrize(("more", "can"), [({}, True), ({"can_be_kept": True}, True), ({"can_be_kept": False}, False)])
def test_what_nothing_extends_has_no_button(more: dict[str, bool], can: bool):
    """The gateway says which; an older one does not, and what cannot be kept then is told when it is tried."""
    assert can_be_kept(Shown(ending=ending(**more))) is can
