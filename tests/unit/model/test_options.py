"""Options: what is accepted, in which form it is kept, and what the refusal says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.model.errors import Invalid
from tidegate.model.options import MEMORY_UNITS, TEXT_LIMIT, Kind, Option, OptionSet

CORES = Option("worker_cores", Kind.INTEGER, 1, minimum=1, maximum=8)
MEMORY = Option("worker_memory", Kind.FLOAT, 2.0, minimum=0.5, maximum=16, unit="GiB")
QUEUE = Option("queue", Kind.STRING, "long", fixed=True)
IMAGE = Option("image", Kind.STRING, "daskdev/dask")
SPOT = Option("spot", Kind.BOOLEAN, False)
SOFTWARE = Option("environment", Kind.CHOICE, "notebook", choices=("notebook", "geo-2026"))
LIKE = Option("branch", Kind.STRING, "v1-final", patterns=("main", "release-*"))
WAIT = Option("idle_timeout", Kind.FLOAT, 30.0, minimum=1, maximum=240, unit="min")
NAMED = Option("size", Kind.CHOICE, "s", choices=("s", "l"), labels=("Small", "Large"))
MARKS = Option("marks", Kind.MAPPING, {"a": "b"})
KEYS = Option("variables", Kind.MAPPING, {"SITE": "geheim"}, secret=True)
ALL = OptionSet((CORES, MEMORY, QUEUE, IMAGE, SPOT, SOFTWARE, LIKE, WAIT, NAMED, MARKS, KEYS))

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("4 GiB"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("option", "value", "kept"),
    [
        (CORES, 8, 8),
        (CORES, 2.0, 2),
        (MEMORY, 4, 4.0),
        (MEMORY, "512 MiB", 0.5),
        (MEMORY, "4GiB", 4.0),
        (MEMORY, " 8 ", 8.0),
        (MEMORY, "2 GB", 2e9 / 2**30),
        (QUEUE, "long", "long"),
        (SPOT, True, True),
        (SOFTWARE, "geo-2026", "geo-2026"),
        (LIKE, "release-7", "release-7"),
        (LIKE, "v1-final", "v1-final"),
        (WAIT, 45, 45.0),
        (WAIT, "45", 45.0),
        (WAIT, "1 h 30 min", 90.0),
        (NAMED, "Large", "l"),
        (NAMED, "l", "l"),
        (MARKS, {"n": 1, "f": 0.5, "t": "x\ny"}, {"n": "1", "f": "0.5", "t": "x\ny"}),
        (KEYS, {"SITE": "***", "KEY": "x"}, {"SITE": "geheim", "KEY": "x"}),
    ],
)
def test_what_is_accepted_is_kept_in_one_form(option, value, kept):
    """Whole floats become integers, memory with a unit becomes the option's own unit."""
    assert option.check(value) == kept
    assert type(option.check(value)) is type(kept)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        (CORES, 9, "cannot set worker_cores to 9: it must lie between 1 and 8"),
        (CORES, 1.5, "whole number"),
        (CORES, True, "whole number"),
        (CORES, "2", "whole number"),
        (CORES, math.nan, "whole number"),
        (MEMORY, 0.25, "it must lie between 0.5 GiB and 16 GiB"),
        (MEMORY, "32 GiB", "cannot set worker_memory to '32 GiB': it must lie between"),
        (MEMORY, "4 bananas", "write a number, or a number with a unit such as '4 GiB'"),
        (MEMORY, "", "write a number"),
        (MEMORY, "inf", "finite"),
        (MEMORY, math.nan, "finite"),
        (MEMORY, 10**400, "too large"),
        (MEMORY, None, "it must be a number in GiB"),
        (QUEUE, "short", "it is fixed at long by the administrator of this gateway"),
        (IMAGE, "a\nb", "control characters"),
        (IMAGE, "a\x9b31m", "control characters"),
        (IMAGE, "nib\u202egro", "printable characters"),
        (IMAGE, "x" * (TEXT_LIMIT + 1), "at most 4096 characters"),
        (IMAGE, 5, "it must be text"),
        (SPOT, 1, "true or false"),
        (SOFTWARE, "geo", "choose one of notebook, geo-2026"),
        (SOFTWARE, ["notebook"], "choose one of"),
        (LIKE, "release/7", "it must be like main or release-*"),
        (WAIT, "1 d", "it must lie between 1 min and 240 min"),
        (WAIT, "never", "to 'never': it must lie between 1 min and 240 min"),
        (WAIT, 0, "to 0: it must lie between 1 min and 240 min"),
        (replace(WAIT, name="patience"), "never", "it must be finite"),
        (WAIT, "soon", "write a number of minutes, or text with a unit such as '90 min'"),
        (NAMED, "small", "choose one of s, l"),
        (MARKS, "a=b", "it must be texts by name"),
        (MARKS, {"": "x"}, "a name in it must be text without control characters"),
        (MARKS, {"a\n": "x"}, "a name in it must be text"),
        (MARKS, {"a": True}, "what 'a' stands for must be text: write it in quotes"),
        (MARKS, {"a": "\0"}, "characters in it that no text has"),
        (MARKS, {"a": "\ud800"}, "characters in it that no text has"),
        (MARKS, {f"{n}": "x" for n in range(201)}, "it has 201 names, and may have at most 200"),
        (MARKS, {"a": "x" * 65536}, "come to 65537 characters, and may to at most 65536"),
    ],
)
def test_a_refusal_names_the_option_the_value_and_the_rule(option, value, words):
    """The error says which field to change and how; a long value is cut."""
    with pytest.raises(Invalid) as caught:
        option.check(value)
    assert words in caught.value.message
    assert caught.value.message.startswith(f"cannot set {option.name} to ")
    assert caught.value.field == option.name
    assert len(caught.value.message) < 250


@pytest.mark.parametrize(
    "value", ["geheim", ["geheim"], {"A": ["geheim"]}, {"A": "geheim\0"}, {"A": "geheim" * 20_000}]
)
def test_a_refusal_repeats_nothing_secret(value):
    """Only the name of the option, and of what is wrong in it."""
    with pytest.raises(Invalid) as caught:
        KEYS.check(value)
    assert "geheim" not in caught.value.message
    assert caught.value.message.startswith("cannot set variables: ")


def test_never_is_a_time_where_none_at_all_is_allowed():
    """It is written so, and told so; 0 stands for it."""
    free, capped = replace(WAIT, minimum=0, maximum=None), replace(WAIT, minimum=0)
    for option in (free, capped, replace(WAIT, default=0.0, maximum=None)):
        assert option.check("never") == option.check(0) == 0
        assert option.describe(0.0) == "never"
        assert option.describe(30.0) == "30 min"
    assert (free.may_be(), capped.may_be()) == ("any time, or never", "at most 240 min, or never")
    assert WAIT.may_be() == "1 min to 240 min"
    with pytest.raises(Invalid, match="it must be at most 240 min, or never"):
        capped.check("1 d")
    with pytest.raises(Invalid, match="it must be at least 1 min"):
        replace(WAIT, maximum=None).check("never")


def test_a_secret_that_stands_for_a_name_is_not_repeated():
    """Somebody may paste both together, or one for the other."""
    with pytest.raises(Invalid) as caught:
        KEYS.check({"tok-geheim": True})
    assert "geheim" not in caught.value.message


def test_a_mask_stands_for_what_is_there_only():
    """Copied from where another cluster's options are shown, it means nothing."""
    with pytest.raises(Invalid, match="stands for a text that is not shown; say what 'NEW' is"):
        KEYS.check({"NEW": "***"})


def test_the_default_is_always_right():
    """Also beyond the bounds, as a profile may set it; nothing else is."""
    beyond = Option("n", Kind.INTEGER, 16, minimum=1, maximum=4)
    assert beyond.check(16) == 16
    with pytest.raises(Invalid, match="between 1 and 4"):
        beyond.check(15)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (CORES, "1 to 8"),
        (WAIT, "1 min to 240 min"),
        (QUEUE, "fixed by the administrator of this gateway"),
        (IMAGE, "text"),
        (LIKE, "text like main or release-*"),
        (NAMED, "one of s (Small), l (Large)"),
        (SOFTWARE, "one of notebook, geo-2026"),
        (MARKS, "texts by name"),
        (SPOT, "True or False"),
    ],
)
def test_what_it_may_be_in_words(option, words):
    """The same in every form and table."""
    assert option.may_be() == words


def test_one_sided_bounds_say_one_side():
    """Only the bound that exists is named."""
    with pytest.raises(Invalid, match="it must be at least 1"):
        Option("n", Kind.INTEGER, 1, minimum=1).check(0)
    with pytest.raises(Invalid, match="it must be at most 3"):
        Option("n", Kind.INTEGER, 1, maximum=3).check(4)


def test_defaults_are_filled_in():
    """Every option has a value afterwards, in the order in which they are declared."""
    values = ALL.check({"worker_cores": 4})
    assert list(values) == [o.name for o in ALL.options]
    assert (values["worker_cores"], values["worker_memory"], values["environment"]) == (4, 2.0, "notebook")


def test_an_unknown_name_is_refused_with_what_there_is():
    """The message lists the options that exist; of a million unknown names it repeats a few."""
    with pytest.raises(Invalid, match="Unknown fields \\['cores'\\]: this gateway offers worker_cores, worker_memory"):
        ALL.check({"cores": 1})
    with pytest.raises(Invalid) as caught:
        ALL.check({f"{n}" * 100: 1 for n in range(1000)})
    assert len(caught.value.message) < 1000


@given(st.sampled_from(ALL.options), anything)
def test_every_value_is_accepted_or_refused(option, value):
    """No value brings the check down, and what it accepts it accepts again, unchanged."""
    try:
        kept = option.check(value)
    except Invalid:
        return
    assert option.check(kept) == kept


@given(st.floats(0.5, 16), st.sampled_from(sorted(MEMORY_UNITS)))
def test_memory_means_the_same_in_every_unit(amount, unit):
    """A number of bytes is accepted or refused whatever the unit that it is written in."""
    text = f"{amount * 2**30 / MEMORY_UNITS[unit]!r} {unit}"
    assert Option("m", Kind.FLOAT, 1.0, unit="GiB").check(text) == pytest.approx(amount)
