"""What users call their tokens and links."""

from __future__ import annotations

import pytest

from tidegate.model.errors import Invalid
from tidegate.model.labels import LONGEST_LABEL, check_label


@pytest.mark.parametrize("text", ["", "for the reviewers", "Prüfung № 3 – 東京 🌊", "x" * LONGEST_LABEL])
def test_a_line_of_text_is_a_label(text: str):
    """In any language, or none at all; blanks around it are dropped."""
    assert check_label(f" {text} ", "make a token") == text


@pytest.mark.parametrize("text", ["a\nb", "\x1b[2Jgone", "a\x9b2J", "nib\u202egro", "a\u2028b", "\ud800", "x" * 101])
def test_what_others_could_not_read_as_it_is_is_none(text: str):
    """Nothing that acts on a terminal, or is read otherwise than it is; the sentence says what would be right."""
    with pytest.raises(Invalid) as caught:
        check_label(text, "make a token")
    assert caught.value.field == "label"
    assert caught.value.message == (
        "cannot make a token: its label must be at most 100 printable characters, on one line"
    )
