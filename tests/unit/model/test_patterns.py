"""Patterns of text: which images and groups are meant."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.model.patterns import is_like


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("staff", "staff", True),
        ("staff", "staff2", False),
        ("project-*", "project-ice", True),
        ("project-*", "project-", True),
        ("ghcr.io/geo/*", "ghcr.io/geo/dask:1", True),
        ("ghcr.io/geo/*", "ghcr.io/geo/old/dask:1", False),
        ("ghcr.io/geo/**", "ghcr.io/geo/old/dask:1", True),
        ("ghcr.io/*/dask:2026.?", "ghcr.io/geo/dask:2026.8", True),
        ("ghcr.io/*/dask:2026.?", "ghcr.io/geo/dask:2026.10", False),
        ("registry-*.example.org/dask", "registry-x.example.com/y.example.org/dask", False),
        ("a.c", "abc", False),
        ("[a-z]", "b", False),
        ("", "", True),
        ("*", "", True),
        ("*a*b*", "xxaxxbxx", True),
    ],
)
def test_what_a_pattern_means(pattern: str, text: str, matches: bool) -> None:
    """Stars and question marks do not cross a slash, two stars do; everything else is itself."""
    assert is_like(text, pattern) is matches


@given(st.text("ab/*?", max_size=8), st.text("ab/\n", max_size=10))
def test_it_means_what_the_regular_expression_means(pattern: str, text: str) -> None:
    """Compared with the obvious translation."""
    words = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = (words.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*|\?)", pattern))
    assert is_like(text, pattern) is bool(re.fullmatch("".join(parts), text, re.DOTALL))


def test_no_text_takes_long() -> None:
    """The longest text that an option takes, with a pattern at which a regular expression would not end."""
    began = time.process_time()
    assert not is_like("a" * 4096, "*a" * 20 + "b")
    assert time.process_time() - began < 2
