"""What a user may choose: a mapping, attributes, a table, a form."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.client.errors import GatewayValueError
from tidegate.client.options import Options, chosen, merge
from tidegate.model.errors import Invalid
from tidegate.model.options import Kind, Option


def option(name: str, kind: str, default: Any, **more: Any) -> dict[str, Any]:
    """Return an option as the gateway lists it."""
    absent = {"label": name, "help": "", "minimum": None, "maximum": None, "unit": "", "choices": [], "fixed": False}
    return {**absent, "name": name, "kind": kind, "default": default, **more}


OFFER = [
    option("worker_cores", "integer", 1, minimum=1, maximum=4),
    option("worker_memory", "float", 2.0, minimum=0.5, maximum=8, unit="GiB"),
    option("environment", "choice", "notebook", choices=["notebook", "geo"]),
    option("queue", "string", "batch", fixed=True),
    option("spot", "boolean", False, an_addition="of a newer gateway"),
]


@pytest.fixture
def options() -> Options:
    """Options of every kind."""
    return Options.from_json(OFFER)


def test_keys_and_attributes_are_the_same(options: Options) -> None:
    """As with dask-gateway."""
    options.worker_cores = 2
    options["environment"] = "geo"

    assert options["worker_cores"] == options.worker_cores == 2
    assert dict(options) == {
        "worker_cores": 2,
        "worker_memory": 2.0,
        "environment": "geo",
        "queue": "batch",
        "spot": False,
    }


def test_a_unit_is_understood(options: Options) -> None:
    """Memory may be given in any unit."""
    options.worker_memory = "4096 MiB"

    assert options.worker_memory == 4.0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("worker_cores", 5, "cannot set worker_cores to 5: it must lie between 1 and 4"),
        ("worker_cores", "two", "cannot set worker_cores to 'two': it must be a whole number"),
        ("worker_memory", 9, "it must lie between 0.5 GiB and 8 GiB"),
        ("environment", "no", "choose one of notebook, geo"),
        ("queue", "gpu", "it is fixed at batch by the administrator of this gateway"),
        ("spot", 1, "it must be true or false"),
    ],
)
def test_a_wrong_value_is_refused_with_the_rule(options: Options, name: str, value: Any, words: str) -> None:
    """At once, and the value is as before."""
    before = options[name]

    with pytest.raises(GatewayValueError) as caught:
        setattr(options, name, value)

    assert words in str(caught.value)
    assert options[name] == before


@given(st.integers() | st.floats(allow_nan=False) | st.text() | st.booleans() | st.none())
def test_the_words_are_those_of_the_gateway(value: Any) -> None:
    """Whatever is refused here is refused there, in the same sentence."""
    options = Options.from_json(OFFER)

    def outcome(act: Callable[[], Any]) -> Any:
        try:
            return act()
        except (Invalid, GatewayValueError) as error:
            return str(error)

    there = outcome(lambda: Option("worker_cores", Kind.INTEGER, 1, minimum=1, maximum=4).check(value))
    here = outcome(lambda: setattr(options, "worker_cores", value) or options.worker_cores)

    assert here == there


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda o: o.nonsense, AttributeError),
        (lambda o: setattr(o, "nonsense", 1), AttributeError),
        (lambda o: o["nonsense"], KeyError),
        (lambda o: o.update(nonsense=1), KeyError),
    ],
)
def test_an_unknown_option_lists_what_there_is(options: Options, use: Any, error: type[Exception]) -> None:
    """As the exception that the use leads one to expect."""
    with pytest.raises(error) as caught:
        use(options)

    assert str(caught.value) == (
        "cannot find an option 'nonsense': this gateway offers worker_cores, worker_memory, environment, queue, spot"
    )


def test_completion_offers_the_options(options: Options) -> None:
    """In IPython, for attributes and for keys."""
    assert {"worker_cores", "spot"} <= set(dir(options))
    assert "worker_cores" in options._ipython_key_completions_()


def test_deleting_is_going_back(options: Options) -> None:
    """An option cannot be absent; it can be at its default."""
    options.worker_cores = 3
    del options["worker_cores"]

    assert options.worker_cores == 1


def test_what_is_fixed_is_not_asked_for(options: Options) -> None:
    """The gateway knows it; and it may have changed since."""
    assert "queue" not in chosen(options)


def test_a_copy_is_independent(options: Options) -> None:
    """Notebooks copy what they vary."""
    other = copy.deepcopy(options)
    other.worker_cores = 4

    assert options.worker_cores == 1


def test_an_option_of_a_kind_unknown_here_is_the_gateways_to_judge() -> None:
    """A newer gateway works with an older client."""
    options = Options.from_json([option("mounts", "matrix", {})])
    options.mounts = {"a": 1}

    assert chosen(options) == {"mounts": {"a": 1}}


PROFILES = [
    {"name": "small", "label": "Small", "help": "", "values": {"worker_cores": 1, "queue": "batch"}},
    {"name": "large", "label": "Large", "help": "", "values": {"worker_cores": 16, "queue": "big"}},
]
CHOICE = option("profile", "choice", "small", choices=["small", "large"], labels=["Small", "Large"])


def test_choosing_a_profile_shows_what_it_sets() -> None:
    """Beyond the bounds, and what is fixed; what was set by hand stays, and what was not goes on with the next one."""
    options = Options.from_json([CHOICE, *OFFER], PROFILES)

    options.profile = "Large"
    assert (options.profile, options.worker_cores, options.queue) == ("large", 16, "big")
    assert chosen(options)["worker_cores"] == 16
    options.profile = "small"
    assert (options.worker_cores, options.queue) == (1, "batch")
    options.worker_cores = 3
    options.profile = "large"
    assert (options.worker_cores, options.queue) == (3, "big")
    del options["worker_cores"]
    assert options.worker_cores == 16


def test_a_profile_goes_over_a_form_as_a_single_value() -> None:
    """`new_cluster(options, profile="large")` is what the form with that profile is."""
    options = Options.from_json([CHOICE, *OFFER], PROFILES)

    asked = merge(options, {"profile": "large"}, {})

    assert (asked["profile"], asked["worker_cores"]) == ("large", 16)
    assert options.worker_cores == 1


def test_secret_texts_are_not_shown() -> None:
    """Not in text and not as HTML; what is not shown is asked for as it is."""
    options = Options.from_json([option("variables", "mapping", {"GIVEN": "***"}, secret=True)])
    options.variables = {"KEY": "geheim", "GIVEN": "***"}

    assert "geheim" not in repr(options) + options._repr_html_()
    assert "KEY=***" in repr(options)
    assert chosen(options) == {"variables": {"KEY": "geheim", "GIVEN": "***"}}
    with pytest.raises(GatewayValueError, match="stands for a text that is not shown; say what 'NEW' is"):
        options.variables = {"NEW": "***"}


def test_a_form_draws_every_kind() -> None:
    """Labels in a list, lines in a mapping, and what a profile sets in all of them."""
    from tidegate.client.widget import options_form

    small = {"worker_cores": 1, "environment": "geo", "variables": {}}
    large = {"worker_cores": 16, "environment": "gpu", "variables": {"A": "1"}}
    profiles = [{**PROFILES[0], "values": small}, {**PROFILES[1], "values": large}]
    options = Options.from_json([CHOICE, *OFFER, option("variables", "mapping", {})], profiles)
    options.profile = "small"
    form = options_form(options)
    boxes = {name: row.children[1] for name, row in zip(options, form.children[1:], strict=True)}

    assert boxes["profile"].options == (("Small", "small"), ("Large", "large"))
    boxes["profile"].value = "large"
    assert boxes["worker_cores"].value == 16
    assert (boxes["environment"].value, boxes["variables"].value) == ("gpu", "A=1")
    boxes["profile"].value = "small"
    assert (boxes["worker_cores"].value, boxes["environment"].value) == (1, "geo")
    boxes["variables"].value = "A=2\nB=3"
    assert options.variables == {"A": "2", "B": "3"}
    boxes["variables"].value = "nonsense"
    assert "line 1 is not NAME=text" in form.children[-1].children[2].value
    assert options.variables == {"A": "2", "B": "3"}


def test_the_table_shows_bounds_and_who_fixed_what(options: Options) -> None:
    """In text, and in a notebook as HTML, where nothing of it is markup."""
    assert "worker_memory = 2 GiB     0.5 GiB to 8 GiB" in repr(options)
    assert "queue         = batch     fixed by the administrator of this gateway" in repr(options)
    evil = Options.from_json([option("<b>", "string", "<script>")])
    assert "<script>" not in evil._repr_html_()


def test_single_values_go_over_the_form(options: Options) -> None:
    """`new_cluster(options, worker_cores=2)`; the form itself is as it was."""
    asked = merge(options, {"worker_cores": 2}, {"ignored": "defaults"})

    assert asked["worker_cores"] == 2
    assert options.worker_cores == 1


def test_single_values_are_checked_against_the_form(options: Options) -> None:
    """Before anything is sent."""
    with pytest.raises(GatewayValueError, match="between 1 and 4"):
        merge(options, {"worker_cores": 9}, {})


def test_without_a_form_the_configuration_counts() -> None:
    """And single values go over it."""
    assert merge(None, {"a": 1}, {"a": 2, "b": 3}) == {"a": 1, "b": 3}
    assert merge({"a": 5}, {}, {"b": 3}) == {"a": 5}


def test_what_is_no_form_is_refused() -> None:
    """A common slip: the gateway's name in its place."""
    with pytest.raises(GatewayValueError, match="cannot use str as cluster options"):
        merge("worker_cores=2", {}, {})  # type: ignore[arg-type]


def test_the_form_and_the_values_are_bound_both_ways(options: Options) -> None:
    """What is typed is set, what is set is shown, what is wrong is said beside it."""
    from tidegate.client.widget import options_form

    form = options_form(options)
    _, cores, said = form.children[1].children

    options.worker_cores = 3
    assert cores.value == 3
    cores.value = 2
    assert options.worker_cores == 2
    cores.value = 7
    assert options.worker_cores == 2
    assert "between 1 and 4" in said.value
    cores.value = 1
    assert "cannot" not in said.value
    assert form.children[4].children[1].disabled  # the fixed one
