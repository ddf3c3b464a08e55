"""What goes on in threads that nobody waits for without a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Doing:
    """A call in a thread of its own. One that hangs does not keep the program from ending.

    Parameters
    ----------
    call : callable
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self.seconds = 0.0
        self._call = call
        self._over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self._over.is_set()

    def wait(self, seconds: float) -> BaseException | None:
        """Return what it raised; fail if it has not ended within so many seconds."""
        assert self._over.wait(seconds), f"it hangs: no end within {seconds:g} s"
        return self.error

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self._call()
        # Whatever it is, somebody judges it.
        except BaseException as error:
            self.error = error
        finally:
            self.seconds = time.monotonic() - began
            self._over.set()


def do_all(do: Callable[[T], object], things: Sequence[T], seconds: float) -> None:
    """Do something to all at once, and raise what went wrong first."""
    calls = [Doing(lambda thing=thing: do(thing)) for thing in things]  # type: ignore[misc]
    for call in calls:
        if (error := call.wait(seconds)) is not None:
            raise error
