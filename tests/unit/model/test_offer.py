"""What of an offer one user sees, and what comes of what they give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tidegate.model.errors import Invalid
from tidegate.model.offer import ChoiceLabels, Offer, Variant
from tidegate.model.options import Kind, Option, OptionSet
from tidegate.model.principal import Principal
from tidegate.model.profiles import PROFILE, Profile

CORES = Option("cores", Kind.INTEGER, 2, minimum=1, maximum=4)
MEMORY = Option("memory", Kind.FLOAT, 4.0, fixed=True)
NODE = Option("node", Kind.STRING, "cpu-{groups}", hidden=True)
CHOSEN = Option(PROFILE, Kind.CHOICE, "small", choices=("small", "large", "gpu"))

OFFER = Offer(
    (CHOSEN, CORES, MEMORY, NODE),
    {
        "cores": (
            Variant("team-*", replace(CORES, maximum=8)),
            Variant("staff", replace(CORES, maximum=64)),
        ),
        "node": (Variant("team-*", replace(NODE, default="{group}")),),
    },
    (
        Profile("small", values={"cores": 1}),
        Profile("large", values={"cores": 16, "memory": 32.0, "node": "big {user}"}),
        Profile("gpu", values={"node": "{group}"}, groups=("team-*", "gpu-*")),
    ),
)


def seen(*groups: str) -> OptionSet:
    """Return what alice sees in these groups."""
    return OFFER.seen_by(Principal("alice", frozenset(groups)))


def test_the_first_pattern_that_fits_decides() -> None:
    """In the order of the configuration, not of the groups; for each option by itself."""
    assert [options.options[1].maximum for options in (seen(), seen("staff"), seen("staff", "team-ice"))] == [4, 64, 8]


def test_of_several_groups_the_first_in_the_alphabet_is_meant() -> None:
    """Always the same one, whatever the order in which an authenticator tells them."""
    assert seen("team-z", "team-b", "a").options[3].default == "team-b"


def test_choices_are_told_by_their_labels() -> None:
    """Those of a group too; what is no choice, or no longer one, is told as it is."""
    image = Option("image", Kind.CHOICE, "r/py", choices=("r/py", "r/r"), labels=("Python", "R"))
    more = replace(image, choices=("r/jl",), labels=("Julia",))
    labels = ChoiceLabels(Offer((image, CORES), {"image": (Variant("staff", more),)}))

    told = [labels.told({"image": one, "cores": 2})["image"] for one in ("r/py", "r/r", "r/jl", "r/old")]
    assert told == ["Python", "R", "Julia", "r/old"]
    assert labels.told({"cores": 2, "gone": {"a": "b"}}) == {"cores": 2, "gone": {"a": "b"}}


def test_texts_are_filled_in_for_each_user() -> None:
    """Also those that profiles set; what is hidden is filled in too."""
    assert seen("b", "a").check({})["node"] == "cpu-a,b"
    assert seen("team-ice").check({"profile": "large"})["node"] == "big alice"
    assert seen("gpu-1", "team-ice").check({"profile": "gpu"})["node"] == "team-ice"


def test_a_profile_for_others_does_not_exist() -> None:
    """It is not among the choices; and who is shown no profile at all has no such option."""
    assert seen().options[0].choices == ("small", "large")
    assert seen("gpu-1").options[0].choices == ("small", "large", "gpu")
    closed = replace(OFFER, profiles=(OFFER.profiles[2],))
    assert PROFILE not in closed.seen_by(Principal("alice")).check({})


def test_without_the_default_profile_the_first_that_is_open_holds() -> None:
    """Somebody has to have one."""
    offer = replace(OFFER, options=(replace(CHOSEN, default="gpu"), *OFFER.options[1:]))
    assert offer.seen_by(Principal("alice")).check({})[PROFILE] == "small"
    assert offer.seen_by(Principal("alice", frozenset({"gpu-1"}))).check({})[PROFILE] == "gpu"


def test_what_a_profile_does_not_set_is_as_declared() -> None:
    """Not as the profile has it that holds when nothing is said."""
    options = seen("gpu-1")
    assert options.shown()[1].default == 1
    assert options.check({"profile": "gpu"})["cores"] == 2


def test_the_effect_of_a_profile_is_told_without_what_is_hidden() -> None:
    """All that any profile sets, so that a form can follow every choice."""
    options = seen()
    assert [options.effect(profile) for profile in options.profiles] == [
        {"cores": 1, "memory": 4.0},
        {"cores": 16, "memory": 32.0},
    ]


values: st.SearchStrategy[Any] = st.sampled_from([1, 2, 3, 4, 5, 16, 4.0, 32.0, "x", "small", "large", "gpu", None])


@given(
    st.dictionaries(st.sampled_from([PROFILE, "cores", "memory", "node"]), values),
    st.booleans(),
    st.sets(st.sampled_from(["staff", "team-ice", "gpu-1"])),
)
def test_nobody_gets_what_is_not_offered(asked: dict[str, Any], whole: bool, groups: set[str]) -> None:
    """Whatever is given, what comes of it is the administrator's word, or within the user's bounds."""
    options = seen(*groups)
    try:
        got = options.check(asked, whole=whole)
    except Invalid:
        return
    assert list(got) == [option.name for option in options.options]
    assert "node" not in asked
    (profile,) = (p for p in options.profiles if p.name == got[PROFILE])
    for option in options.options:
        word = profile.values.get(option.name, option.default)
        if got[option.name] == word or option.name == PROFILE:
            continue
        assert option.name == "cores"
        assert option.minimum <= got["cores"] <= option.maximum
        assert got["cores"] == asked["cores"]
