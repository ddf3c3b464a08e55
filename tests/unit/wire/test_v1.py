"""The JSON of the dask-gateway protocol."""

from __future__ import annotations

from typing import Any

import pytest
from dask_gateway.options import Options

from tidegate.model.errors import Invalid
from tidegate.model.options import Kind, Option
from tidegate.wire.v1 import option_field, parse_statuses, parse_wait


@pytest.mark.parametrize(
    ("text", "waits"),
    [(None, False), ("", True), ("1", True), ("0", False), ("-3", True), ("no", False), ("1.5", False), ("٣", True)],
)
def test_what_asks_for_a_wait(text: str | None, waits: bool) -> None:
    """As dask-gateway reads it: the flag alone, or a number that is not zero."""
    assert parse_wait(text) is waits


def test_a_very_long_flag_is_no_work() -> None:
    """Python refuses to read numbers of thousands of digits; nobody gets that far."""
    assert parse_wait("9" * 100_000) is True


def test_no_status_means_the_active_ones() -> None:
    """And an empty one is a mistake."""
    assert parse_statuses(None) == ["PENDING", "RUNNING"]
    assert parse_statuses(" stopped ,Failed") == ["STOPPED", "FAILED"]
    with pytest.raises(Invalid):
        parse_statuses("")


@pytest.mark.parametrize(
    ("option", "refused"),
    [
        (Option("x", Kind.INTEGER, 2, fixed=True, minimum=1, maximum=4), [1, 3]),
        (Option("x", Kind.FLOAT, 2.5, fixed=True), [2.4, 3]),
        (Option("x", Kind.STRING, "a", fixed=True), ["b"]),
        (Option("x", Kind.CHOICE, "a", choices=("a", "b"), fixed=True), ["b"]),
        (Option("x", Kind.INTEGER, 2, minimum=1.5, maximum=3.5), [1, 4]),
        (Option("x", Kind.FLOAT, 1, minimum=1, maximum=4, unit="GiB"), [0.5, 5]),
        (Option("x", Kind.INTEGER, 2), ["two"]),
        (Option("x", Kind.INTEGER, 16, minimum=1, maximum=4), [0, 17]),
        (Option("x", Kind.FLOAT, 0.5, minimum=1, maximum=4), [0.25, 5]),
        (Option("x", Kind.MAPPING, {"a": "b"}), ["a=b"]),
    ],
)
def test_the_official_client_keeps_to_what_we_declare(option: Option, refused: list[Any]) -> None:
    """The default is accepted, and what breaks a bound is refused before anything is sent."""
    options = Options._from_spec([option_field(option)])

    assert options.x == option.default
    for value in refused:
        with pytest.raises((ValueError, TypeError)):
            options.x = value


def test_labels_stand_for_choices_and_masks_for_secrets() -> None:
    """That client shows what it sends."""
    choice = option_field(Option("x", Kind.CHOICE, "b", choices=("a", "b"), labels=("First", "Second")))
    assert (choice["default"], choice["spec"]["options"]) == ("Second", ["First", "Second"])
    assert option_field(Option("x", Kind.MAPPING, {"A": "geheim"}, secret=True))["default"] == {"A": "***"}


def test_the_unit_is_in_the_label() -> None:
    """That client knows no units."""
    assert option_field(Option("memory", Kind.FLOAT, 2.0, unit="GiB"))["label"] == "memory (GiB)"
