"""What a person sees while a cluster starts: what it waits for, and for how long.

One line that is rewritten in a terminal, a widget in a notebook, nothing where the output is not read by a person.
Nothing is shown for what is over in a blink. A display has a ``message`` that anyone may set, and draws itself only in
``tick``, which is called in the thread of the person's program: neither terminals nor notebooks like to be written to
from elsewhere.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable
from typing import Any

SHOW_AFTER = 0.4
"""Seconds before anything is shown: a line that flashes up tells nobody anything."""


class Progress:
    """Shows nothing; the others inherit from it.

    Parameters
    ----------
    message : str
        What is being waited for at first.
    clock : callable
        Returns seconds.
    """

    def __init__(self, message: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.message = message
        self._clock = clock
        self._started = clock()

    def tick(self) -> None:
        """Draw the current state, if it is time to."""
        if self._clock() - self._started >= SHOW_AFTER:
            self._draw(f"{self.message} ({self._clock() - self._started:.0f} s)")

    def close(self) -> None:
        """Take away what was drawn."""

    def _draw(self, text: str) -> None:
        """Show ``text`` in place of what was shown before."""


class TerminalProgress(Progress):
    """One line that is rewritten.

    Parameters
    ----------
    console : rich.console.Console, optional
        By default standard error, so that what a program prints stays clean.
    """

    def __init__(self, message: str, clock: Callable[[], float] = time.monotonic, console: Any = None) -> None:
        super().__init__(message, clock)
        self._console = console
        self._live: Any = None

    def _draw(self, text: str) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        line = Text(text, no_wrap=True, overflow="ellipsis")
        if self._live is None:
            console = self._console or Console(stderr=True)
            # Without threads and redirections of its own: the line is drawn by ``tick`` alone.
            self._live = Live(
                line, console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        self._live.update(line, refresh=True)

    def close(self) -> None:
        """Remove the line."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class NotebookProgress(Progress):
    """A widget, or without ipywidgets an output that is replaced."""

    def __init__(self, message: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(message, clock)
        self._widget: Any = None
        self._output: Any = None

    def _draw(self, text: str) -> None:
        content = f"<i>{html.escape(text)}</i>"
        if self._widget is None and self._output is None:
            self._show(content)
        elif self._widget is not None:
            self._widget.value = content
        else:
            self._output.update({"text/plain": text, "text/html": content}, raw=True)

    def _show(self, content: str) -> None:
        from IPython.display import display

        try:
            from ipywidgets import HTML
        except ImportError:
            self._output = display({"text/plain": "", "text/html": content}, raw=True, display_id=True)
        else:
            self._widget = HTML(content)
            display(self._widget)

    def close(self) -> None:
        """Remove the widget or the text."""
        if self._widget is not None:
            self._widget.close()
        elif self._output is not None:
            self._output.update({"text/plain": "", "text/html": ""}, raw=True)
        self._widget = self._output = None


def choose_progress(message: str) -> Progress:
    """Return the display that suits where this program runs."""
    if _in_notebook():
        return NotebookProgress(message)
    stream = sys.stderr
    if stream is not None and stream.isatty():
        return TerminalProgress(message)
    return Progress(message)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and hasattr(shell, "kernel")
