"""Keeping true what a notebook shows of a cluster: drawn again when something happened, and as the time gets shorter.

The gateway tells what happens (``watch.py``), so nobody is asked for it. Only how long it is until the cluster ends
changes without anything happening: then what is shown is drawn again when its words change.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from tidegate.client.keeping import ClusterEnding

SOON = 60.0
"""Seconds before an end from which on the words count seconds, not minutes."""

SOON_STEP = 5.0
"""Seconds between two drawings then: enough to see it coming."""


class LiveView:
    """Draws. All but making it is for the event loop's thread.

    Parameters
    ----------
    loop : tornado.ioloop.IOLoop
    draw : callable
        Draws it once more.
    ending : callable
        Returns the end that is in sight, if one is.
    """

    def __init__(self, loop: Any, draw: Callable[[], None], ending: Callable[[], ClusterEnding | None]) -> None:
        self._loop = loop
        self._draw = draw
        self._ending = ending
        self._timer: Any = None
        self._is_stopped = False
        loop.add_callback(self._wait)

    def changed(self) -> None:
        """Draw it: something happened."""
        self._draw()
        self._wait()

    def stop(self) -> None:
        """Draw no more by itself."""
        self._is_stopped = True
        self._wait()

    def _wait(self) -> None:
        """Come back when the words about the end change."""
        if self._timer is not None:
            self._loop.remove_timeout(self._timer)
        ending = None if self._is_stopped else self._ending()
        self._timer = None if ending is None else self._loop.call_later(next_words(ending), self.changed)


def next_words(ending: ClusterEnding, now: datetime | None = None) -> float:
    """Return in how many seconds the words about an end change."""
    left = (ending.at - (now or datetime.now())).total_seconds()
    # A second late, never early: the same words again would be drawn for nothing.
    return SOON_STEP if left < SOON else left % 60 + 1
