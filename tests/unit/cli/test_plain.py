"""What others wrote does nothing to a terminal."""

from __future__ import annotations

import doctest
import random

import pytest

from tidegate.cli import plain as module
from tidegate.cli.gateway import add_row, new_table, print_table
from tidegate.cli.plain import plain


def test_examples_run() -> None:
    """Those of the docstrings."""
    failed, tried = doctest.testmod(module)

    assert (failed, tried) == (0, 1)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("50 %\r100 %\r\n", "50 %\n100 %\n"),
        ("\x1b]0;a title\x07", "?]0;a title?"),
        ("\x1b[2Jgone", "gone"),
        ("\x9b2J", "?2J"),
        ("user\u202enimda", "user?nimda"),
        ("größer 数 🙂", "größer 数 🙂"),
    ],
)
def test_only_what_can_be_read_is_left(text: str, shown: str) -> None:
    """Lines and tabs stay; colours go; what else does something is a question mark."""
    assert plain(text) == shown


def test_whatever_comes_no_escape_is_left() -> None:
    """Also none that is made by taking another one out of it."""
    chance = random.Random(7)
    for _ in range(2000):
        text = "".join(chance.choices("\x1b[]0;1mJ\x07\x9bab\r\n", k=30))
        assert not set(plain(text)) & {"\x1b", "\x9b", "\x07", "\r"}


def test_a_cell_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """Names and labels in brackets are names and labels."""
    table = new_table("NAME", "LABEL")
    add_row(table, "[red]x[/]", "[/nothing] \x1b[1mbold")
    print_table(table)

    assert capsys.readouterr().out.splitlines()[1].split() == ["[red]x[/]", "[/nothing]", "bold"]
