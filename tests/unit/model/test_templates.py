"""Texts in which a name stands for something of the user's."""

from __future__ import annotations

import pytest

from tidegate.model.templates import fill

NAMES = {"user": "{groups}", "groups": "a,b"}


def test_names_are_filled_in_once() -> None:
    """What a name stands for is not looked at again; doubled braces are braces."""
    assert fill("{user}/{groups}/{{user}}", NAMES) == "{groups}/a,b/{user}"
    assert fill("nothing", NAMES) == "nothing"


@pytest.mark.parametrize("text", ["{user.__class__}", "{user!r}", "{user:>9}", "{0}", "{}", "{", "}", "{home}"])
def test_nothing_but_names_is_understood(text: str) -> None:
    """Neither attributes nor formats; the sentence says what to write."""
    with pytest.raises(ValueError, match=r"brace|stands for nothing here; there are {user}, {groups}"):
        fill(text, NAMES)
