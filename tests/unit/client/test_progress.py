"""What a person sees, and what nobody sees."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tidegate.client.progress import NotebookProgress, Progress, TerminalProgress, choose_progress


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_line_is_rewritten_and_taken_away() -> None:
    """The latest message and the seconds; afterwards nothing is left of it."""
    clock, out = Clock(), io.StringIO()
    progress = TerminalProgress("Asking", clock, Console(file=out, force_terminal=True, width=80))

    clock.now += 1
    progress.tick()
    progress.message = "Cluster x: the scheduler starts"
    clock.now += 11
    progress.tick()
    progress.close()

    shown = out.getvalue()
    assert "Asking (1 s)" in shown
    assert "Cluster x: the scheduler starts (12 s)" in shown
    assert shown.endswith("\r\x1b[1A\x1b[2K"), "the line is erased in the end"


def test_what_is_over_in_a_blink_is_not_shown() -> None:
    """A line that flashes up tells nobody anything."""
    clock, out = Clock(), io.StringIO()
    progress = TerminalProgress("Asking", clock, Console(file=out, force_terminal=True))

    clock.now += 0.1
    progress.tick()
    progress.close()

    assert out.getvalue() == ""


def test_a_message_is_not_markup() -> None:
    """Square brackets in it are brackets."""
    clock, out = Clock(), io.StringIO()
    progress = TerminalProgress("[red]no[/red]", clock, Console(file=out, force_terminal=True))

    clock.now += 1
    progress.tick()
    progress.close()

    assert "[red]no[/red]" in out.getvalue()


def test_a_notebook_shows_a_widget_and_removes_it() -> None:
    """Its text is escaped."""
    clock = Clock()
    progress = NotebookProgress("<b>", clock)

    clock.now += 2
    progress.tick()
    widget = progress._widget
    assert widget.value == "<i>&lt;b&gt; (2 s)</i>"
    progress.close()
    assert widget.comm is None


def test_a_program_without_a_person_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """Output that goes to a file or a pipe stays clean."""
    progress = choose_progress("Asking")
    progress._started -= 60
    progress.tick()
    progress.close()

    assert type(progress) is Progress
    assert capfd.readouterr() == ("", "")
