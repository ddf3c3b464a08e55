"""The administrator's declarations laid over what the backend offers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.config.load import BadConfig, load
from tidegate.config.offer import offered
from tidegate.model.errors import Invalid
from tidegate.model.options import Kind, Option, OptionSet

OWN = (
    Option("worker_cores", Kind.INTEGER, 1, label="Worker cores", minimum=1, maximum=8),
    Option("worker_memory", Kind.FLOAT, 2.0, unit="GiB", minimum=0.25, maximum=16),
    Option("environment", Kind.CHOICE, "base", choices=("base", "ml")),
)


def offer(folder: Path, text: str) -> OptionSet:
    path = folder / "tidegate.yaml"
    path.write_text(text)
    return offered(load(path), OWN)


def test_without_declarations_the_backends_own_options_are_offered(tmp_path: Path) -> None:
    """Out of the box there is something to choose."""
    assert tuple(offer(tmp_path, "").options) == OWN


def test_a_declaration_needs_to_say_only_what_differs(tmp_path: Path) -> None:
    """Bounds are narrowed in one line; label, kind and unit stay the backend's."""
    (memory,) = offer(tmp_path, "options:\n  worker_memory: {maximum: 4096 MiB}\n").options

    assert (memory.kind, memory.unit, memory.minimum, memory.maximum, memory.default) == (
        Kind.FLOAT,
        "GiB",
        0.25,
        4.0,
        2.0,
    )


def test_a_fixed_option_shows_and_refuses_to_change(tmp_path: Path) -> None:
    """The sentence says who fixed it."""
    options = offer(tmp_path, "options:\n  worker_cores: {default: 2, fixed: true}\n")

    assert options.check({}) == {"worker_cores": 2}
    with pytest.raises(Invalid, match="fixed at 2 by the administrator"):
        options.check({"worker_cores": 3})


def test_an_option_that_is_only_named_is_as_the_backend_has_it(tmp_path: Path) -> None:
    """To offer it unchanged, its name is enough."""
    named = offer(tmp_path, "options:\n  worker_cores:\n  worker_memory: {}\n")

    assert [o.name for o in named.options] == ["worker_cores", "worker_memory"]
    assert named.check({"worker_cores": 2})["worker_cores"] == 2


def test_an_option_of_the_administrators_own_is_kept_in_order(tmp_path: Path) -> None:
    """The form shows them as they stand in the file."""
    text = "options:\n  project: {type: string, default: none}\n  worker_cores: {}\n"

    assert [o.name for o in offer(tmp_path, text).options] == ["project", "worker_cores"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("worker_coers: {maximum: 2}", "2: options.worker_coers is not an option of this backend; did you mean worker"),
        (
            "worker_core: {type: integer}",
            "2: options.worker_core is not an option of this backend; did you mean worker",
        ),
        ("queue: {default: a}", "give its type"),
        ("queue: {type: choice, default: a}", "options.queue.choices are missing"),
        ("queue: {type: choice, choices: [a, b], default: c}", "options.queue.default cannot be 'c': choose one of a"),
        ("queue: {type: string}", "options.queue.default is missing"),
        ("queue: {type: string, default: a, minimum: 1}", "options.queue.minimum has no meaning for a string"),
        ("worker_cores: {type: string, default: a}", "options.worker_cores.type must be integer or float"),
        ("worker_cores: {maximum: 4, default: 5}", "options.worker_cores.default cannot be 5: it must lie between 1"),
        ("worker_cores: {minimum: 9}", "options.worker_cores.minimum is 9, above the maximum of 8"),
        ("worker_memory: {maximum: 1 GiB}", "options.worker_memory.default cannot be 2.0: it must lie between 0.25"),
        ("worker_memory: {maximum: much}", "options.worker_memory.maximum cannot be 'much': write a number"),
    ],
)
def test_a_declaration_that_breaks_its_own_rules_is_refused_with_its_line(
    tmp_path: Path, text: str, sentence: str
) -> None:
    """What no user could ever choose is found when the gateway starts, not when a user tries."""
    with pytest.raises(BadConfig) as caught:
        offer(tmp_path, f"options:\n  {text}\n")

    assert sentence in str(caught.value)
    assert str(caught.value).startswith("tidegate.yaml:2: ")


def test_every_bad_declaration_is_told_at_once(tmp_path: Path) -> None:
    """Two mistakes, two sentences."""
    with pytest.raises(BadConfig) as caught:
        offer(tmp_path, "options:\n  worker_cores: {default: 0}\n  environment: {default: x}\n")

    assert [p.split(":")[1] for p in caught.value.problems] == ["2", "3"]
