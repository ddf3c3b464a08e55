"""The administrator's declarations laid over what the backend offers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.config.load import BadConfig, load
from tidegate.config.offer import offered
from tidegate.model.choice import settle
from tidegate.model.errors import Invalid
from tidegate.model.offer import Offer
from tidegate.model.options import Kind, Option, OptionSet
from tidegate.model.principal import Principal

OWN = (
    Option("worker_cores", Kind.INTEGER, 1, label="Worker cores", minimum=1, maximum=8),
    Option("worker_memory", Kind.FLOAT, 2.0, unit="GiB", minimum=0.25, maximum=16),
    Option("environment", Kind.CHOICE, "base", choices=("base", "ml")),
)


ALICE = Principal("alice", frozenset({"students", "project-ice"}))


def offer(folder: Path, text: str) -> Offer:
    path = folder / "tidegate.yaml"
    path.write_text(text)
    return offered(load(path), OWN, knows={"image", "variables"})


def seen(folder: Path, text: str, principal: Principal = ALICE) -> OptionSet:
    """Return what somebody sees."""
    return offer(folder, text).seen_by(principal)


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
    options = seen(tmp_path, "options:\n  worker_cores: {default: 2, fixed: true}\n")

    assert options.check({}) == {"worker_cores": 2}
    with pytest.raises(Invalid, match="fixed at 2 by the administrator"):
        options.check({"worker_cores": 3})


def test_an_option_that_is_only_named_is_as_the_backend_has_it(tmp_path: Path) -> None:
    """To offer it unchanged, its name is enough."""
    named = seen(tmp_path, "options:\n  worker_cores:\n  worker_memory: {}\n")

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
        ("image: {}", "options.image.default is missing"),
        ("worker_gpus: {}", "options.worker_gpus is not an option of this backend"),
        ("image: {default: a, patterns: [a], type: choice}", "options.image.choices are missing"),
        ("environment: {patterns: [a]}", "options.environment.patterns have no meaning for a choice"),
        ("variables: {default: a}", "options.variables.default cannot be that: it must be texts by name"),
        ("variables: {minimum: 1}", "options.variables.minimum has no meaning for a mapping"),
        ("q: {type: choice, default: a, choices: [a, 1]}", "options.q.choices to ['a', 1]: it must be a list of texts"),
        (
            "q: {type: choice, default: a, choices: [{a: 1}]}",
            "options.q.choices to [{'a': 1}]: it must be a list of texts",
        ),
        ("q: {type: choice, default: a, choices: a}", "options.q.choices to 'a': it must be a list of texts"),
        ("q: {type: string, default: '{group}'}", "default cannot be '{group}': {group} stands for nothing here"),
        ("q: {type: string, default: 'a{'}", "a brace that is meant as such is written twice: {{"),
        ("q: {type: choice, default: a, choices: {a: x, b: x}}", "options.q.choices say 'x' twice"),
        ("name: {type: string, default: a}", "options.name cannot be an option"),
        ("worker_cores: {by_group: {x: {maximum: 0}}}", "options.worker_cores.by_group.x.maximum is 0, below"),
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


def test_some_groups_see_something_else(tmp_path: Path) -> None:
    """The first that is meant of one's groups counts, in the order of the file; a pattern means several groups."""
    text = """
options:
  worker_cores:
    maximum: 2
    by_group:
      staff: {maximum: 8}
      project-*: {maximum: 4, default: 3}
      students: {fixed: true}
  environment:
    by_group: {students: {hidden: true, default: ml}}
"""
    alice, bob, carol = (seen(tmp_path, text, Principal(n, frozenset(g))) for n, g in PEOPLE)

    assert [who.options[0].maximum for who in (alice, bob, carol)] == [4, 8, 2]
    assert alice.check({})["worker_cores"] == 3
    assert [option.name for option in alice.shown()] == ["worker_cores"]
    assert alice.check({})["environment"] == "ml"
    with pytest.raises(Invalid, match="Unknown fields"):
        alice.check({"environment": "ml"})


PEOPLE = [("alice", ALICE.groups), ("bob", {"staff", "students"}), ("carol", set())]


def test_texts_depend_on_the_user(tmp_path: Path) -> None:
    """In defaults and fixed values, in mappings, and of a group that is meant."""
    text = """
options:
  variables: {default: {PREFIX: "s3://{user}/{{raw}}", ALL: "{groups}"}}
  account:
    type: string
    default: nobody
    fixed: true
    by_group: {project-*: {default: "{group}-{user}"}}
"""
    values = seen(tmp_path, text).check({})

    assert values == {
        "variables": {"PREFIX": "s3://alice/{raw}", "ALL": "project-ice,students"},
        "account": "project-ice-alice",
    }
    assert seen(tmp_path, text, Principal("bob")).check({})["account"] == "nobody"


def test_an_image_is_a_choice_or_like_a_pattern(tmp_path: Path) -> None:
    """What the backend knows is declared by its name; labels are what people read, and may say."""
    listed = seen(tmp_path, "options:\n  image: {choices: {r/py:1: Python, r/r:1: R}, default: Python}\n")
    assert listed.check({}) == {"image": "r/py:1"}
    assert listed.check({"image": "R"}) == {"image": "r/r:1"}

    like = seen(tmp_path, "options:\n  image: {default: dask/dask, patterns: [ghcr.io/geo/*]}\n")
    assert like.check({"image": "ghcr.io/geo/a:1"}) == {"image": "ghcr.io/geo/a:1"}
    assert like.check({"image": "dask/dask"}) == {"image": "dask/dask"}
    with pytest.raises(Invalid, match="it must be like ghcr"):
        like.check({"image": "evil.example.org/geo/a"})


PROFILES = """
profiles:
  small: {values: {worker_cores: 1}}
  large: {label: Large, values: {worker_cores: 16, worker_memory: 8 GiB}}
  gpu: {groups: [staff], values: {node: gpu}}
options:
  worker_cores: {default: 2, maximum: 4}
  worker_memory: {default: 2, fixed: true}
  node: {type: string, default: cpu, hidden: true}
"""


def test_a_profile_sets_several_options(tmp_path: Path) -> None:
    """Beyond the bounds of users, for what is fixed and for what is hidden; what a user sets beside it wins."""
    options = seen(tmp_path, PROFILES)

    assert [option.name for option in options.shown()] == ["profile", "worker_cores", "worker_memory"]
    assert options.check({}) == {"profile": "small", "worker_cores": 1, "worker_memory": 2.0, "node": "cpu"}
    large = options.check({"profile": "Large"})
    assert (large["profile"], large["worker_cores"], large["worker_memory"]) == ("large", 16, 8.0)
    assert options.check({"profile": "large", "worker_cores": 2})["worker_cores"] == 2
    with pytest.raises(Invalid, match="it must lie between 1 and 4"):
        options.check({"profile": "large", "worker_cores": 15})
    with pytest.raises(Invalid, match="cannot set profile to 'gpu': choose one of small, large"):
        options.check({"profile": "gpu"})
    assert seen(tmp_path, PROFILES, Principal("bob", frozenset({"staff"}))).check({"profile": "gpu"})["node"] == "gpu"


def test_of_a_whole_form_only_what_was_changed_counts(tmp_path: Path) -> None:
    """A form sends all that it shows: what stands there unchanged leaves the profile its say."""
    options = seen(tmp_path, PROFILES)
    form = {option.name: option.default for option in options.shown()}

    assert options.check({**form, "profile": "large"}, whole=True)["worker_cores"] == 16
    assert options.check({**form, "profile": "large", "worker_cores": 3}, whole=True)["worker_cores"] == 3
    assert options.check(form, whole=True)["worker_cores"] == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{values: {worker_coers: 1}}", "is not an option that is offered; did you mean worker_cores?"),
        ("{values: {worker_cores: many}}", "profiles.p.values.worker_cores cannot be 'many': it must be a whole"),
        ("{values: {environment: nope}}", "profiles.p.values.environment cannot be 'nope': choose one of base, ml"),
        ("{values: {profile: p}}", "profiles.p.values.profile is not an option that is offered"),
        ("{value: {}}", "profiles.p.value is not a setting; did you mean values?"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    """When the gateway starts."""
    with pytest.raises(BadConfig) as caught:
        offer(tmp_path, f"profiles:\n  p: {text}\n")

    assert sentence in str(caught.value)
    assert str(caught.value).startswith("tidegate.yaml:2: ")


def test_users_may_know_an_option_by_another_name(tmp_path: Path) -> None:
    """The one of their notebooks from before; what it is stays known."""
    options = seen(tmp_path, "options:\n  cores: {target: worker_cores, maximum: 4}\n")

    assert settle(options, options.check({"cores": 3})).spec.worker_cores == 3
    with pytest.raises(Invalid, match="cannot set cores to 5"):
        options.check({"cores": 5})


def test_the_ends_are_the_gateways_own_by_default(tmp_path: Path) -> None:
    """What holds without the option is its default: for a lifetime never, where nothing bounds it."""
    text = "ends: {idle: 1 h, lifetime: 8 h}\noptions: {idle_timeout: {maximum: 4 h}, lifetime: {}}\n"
    options = seen(tmp_path, text)

    assert options.check({}) == {"idle_timeout": 60.0, "lifetime": 480.0}
    assert options.check({"idle_timeout": "90 min"})["idle_timeout"] == 90.0
    with pytest.raises(Invalid, match="it must lie between 1 min and 240 min"):
        options.check({"idle_timeout": "1 d"})
    for text in ("{}", "{minimum: 0}", "{default: never}", "{minimum: 0, maximum: 8 h}"):
        unbounded = seen(tmp_path, f"options: {{lifetime: {text}}}\n")
        assert unbounded.check({}) == unbounded.check({"lifetime": "never"}) == {"lifetime": 0.0}
    with pytest.raises(BadConfig, match="default cannot be 2: it must be at least 5 min"):
        offer(tmp_path, "options: {lifetime: {minimum: 5, default: 2}}\n")
    with pytest.raises(BadConfig, match=r"default cannot be .*: it must be at least 5 min"):
        offer(tmp_path, "options: {lifetime: {minimum: 5}}\n")
    (lifetime,) = offer(tmp_path, "options: {lifetime: {}}\n").options
    assert (lifetime.minimum, lifetime.default, lifetime.may_be()) == (0.0, 0.0, "any time, or never")
    for text in ("{maximum: 8 h}", "{maximum: 8 h, default: never}"):
        with pytest.raises(BadConfig, match=r"default cannot be .*: it must lie between 1 min and 480 min"):
            offer(tmp_path, f"options: {{lifetime: {text}}}\n")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{cores: {target: worker_core}}", "options.cores.target cannot be 'worker_core': there is no such option"),
        ("{cores: {target: worker_cores}, worker_cores: {}}", "options.worker_cores is the same option as cores"),
    ],
)
def test_a_target_that_is_none_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """And two options that are one."""
    with pytest.raises(BadConfig) as caught:
        offer(tmp_path, f"options: {text}\n")
    assert sentence in str(caught.value)


def test_another_unit_takes_the_bounds_with_it(tmp_path: Path) -> None:
    """What the backend says in GiB holds, whatever unit users are to read; a unit that is none is refused."""
    (memory,) = offer(tmp_path, "options:\n  worker_memory: {unit: MiB}\n").options

    assert (memory.default, memory.minimum, memory.maximum) == (2048.0, 256.0, 16384.0)
    options = seen(tmp_path, "options:\n  worker_memory: {default: 10 GB, unit: GB, fixed: true}\n")
    assert settle(options, options.check({})).spec.worker_memory == 10 * 10**9
    for option, unit in [("worker_memory", "gigs"), ("idle_timeout", "h"), ("worker_cores", "GB")]:
        with pytest.raises(BadConfig, match=rf"tidegate.yaml:2: options.{option}.unit cannot be '{unit}'"):
            offer(tmp_path, f"options:\n  {option}: {{unit: {unit}}}\n")
