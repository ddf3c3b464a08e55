"""From values of options to what runs."""

from __future__ import annotations

import math

import pytest

from tidegate.model.choice import Choice, settle
from tidegate.model.cluster import Adaptive, ClusterSpec
from tidegate.model.errors import Invalid
from tidegate.model.known import BACKENDS, GATEWAYS_OWN, known
from tidegate.model.options import Kind, Option, OptionSet

OPTIONS = OptionSet(
    (
        Option("worker_cores", Kind.INTEGER, 2, minimum=1, maximum=8),
        Option("worker_memory", Kind.FLOAT, 512.0, minimum=256, maximum=4096, unit="MiB"),
        Option("environment", Kind.STRING, "/usr/bin/python3"),
        Option("queue", Kind.STRING, "long"),
    )
)
KNOWN = OptionSet(tuple(known({option.name for option in BACKENDS}).values()))


def choose(options: OptionSet, **given: object) -> Choice:
    """Check and settle."""
    return settle(options, options.check(given))


def test_options_become_a_spec() -> None:
    """Known names have their meaning, in bytes and cores; the rest is for the backend."""
    spec = choose(OPTIONS, worker_memory=1024).spec
    assert (spec.worker_cores, spec.worker_memory, spec.environment) == (2.0, 2**30, "/usr/bin/python3")
    assert spec.extra == {"queue": "long"}


def test_a_gateway_without_options_has_defaults() -> None:
    """Nothing offered, nothing chosen: what stands below."""
    assert choose(OptionSet()) == Choice(ClusterSpec(extra={}))
    below = ClusterSpec(start_timeout=7)
    assert settle(OptionSet(), {}, below).spec.start_timeout == 7


def test_every_known_option_has_its_place() -> None:
    """None is left over for the backend to guess at."""
    given = {
        "worker_threads": 4,
        "worker_gpus": 1,
        "scheduler_cores": 2,
        "scheduler_memory": "4 GiB",
        "image": "dask/dask",
        "variables": {"KEY": "text"},
        "workers": 3,
        "minimum": 1,
        "maximum": 5,
    }
    choice = choose(KNOWN, **given, idle_timeout="1 h", lifetime="8 h")
    spec = choice.spec

    assert {*given, "idle_timeout", "lifetime"} == {option.name for option in (*GATEWAYS_OWN, *BACKENDS)}
    assert (spec.worker_threads, spec.worker_gpus, spec.scheduler_cores, spec.image) == (4, 1, 2.0, "dask/dask")
    assert spec.scheduler_memory == 4 * 2**30
    assert (choice.workers, choice.minimum, choice.maximum) == (3, 1, 5)
    assert choice.variables == {"KEY": "text"}
    assert (spec.idle_timeout, spec.lifetime) == (3600.0, 8 * 3600.0)
    assert spec.extra == {}


def test_no_minutes_are_never() -> None:
    """Where the bounds allow it."""
    options = OptionSet((Option("lifetime", Kind.FLOAT, 0.0, minimum=0, unit="min"),))
    assert choose(options).spec.lifetime == math.inf


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("worker_cores", 0),
        ("worker_cores", -1),
        ("worker_cores", 1e-308),
        ("scheduler_cores", 1e308),
        ("worker_memory", 1e308),
        ("worker_memory", -2),
        ("worker_memory", 1e-12),
        *((name, huge) for name in ("worker_cores", "scheduler_memory", "lifetime") for huge in (10**15, 10**400)),
        *((name, huge) for name in ("worker_gpus", "worker_threads", "workers") for huge in (10**9, 10**400)),
    ],
)
def test_what_nothing_can_run_is_refused_without_bounds_too(name: str, value: float) -> None:
    """An administrator may forget the bounds: nonsense is refused all the same, and is no internal error."""
    kind = Kind.INTEGER if isinstance(value, int) else Kind.FLOAT
    options = OptionSet((Option(name, kind, 1, unit="GiB" if "memory" in name else ""),))
    with pytest.raises(Invalid, match=f"cannot set {name}"):
        choose(options, **{name: value})


RESERVED_NAME = "TIDEGATE_AGENT_FILE"


@pytest.mark.parametrize("name", ["1A", "A-B", "A B", "A=B", "", "geheim-token", RESERVED_NAME])
def test_what_is_no_variable_is_refused(name: str) -> None:
    """Names that no environment has, and the gateway's own; the text is not repeated, nor what may be one."""
    with pytest.raises(Invalid) as caught:
        choose(KNOWN, image="a", lifetime=1, variables={name: "geheim"})
    assert caught.value.field == "variables"
    assert not name or name == RESERVED_NAME or name not in caught.value.message
    assert "geheim" not in caught.value.message


def test_secrets_are_in_no_repr() -> None:
    """Of what is passed around."""
    assert "geheim" not in repr(choose(KNOWN, image="a", lifetime=1, variables={"KEY": "geheim"}))


@pytest.mark.parametrize(
    ("choice", "wanted", "adaptive"),
    [
        (Choice(ClusterSpec()), 0, None),
        (Choice(ClusterSpec(), workers=4), 4, None),
        (Choice(ClusterSpec(), workers=40), 10, None),
        (Choice(ClusterSpec(), minimum=2), 2, None),
        (Choice(ClusterSpec(), minimum=2, maximum=5), 2, Adaptive(2, 5)),
        (Choice(ClusterSpec(), workers=9, maximum=5), 5, Adaptive(0, 5)),
        (Choice(ClusterSpec(), maximum=50), 0, Adaptive(0, 10)),
    ],
)
def test_the_size_to_begin_with(choice: Choice, wanted: int, adaptive: Adaptive | None) -> None:
    """By hand or by the load, within the limit, with a note where it is less than asked."""
    group, note = choice.first_group(ClusterSpec(max_workers=10, max_workers_reason="so it is"))

    assert (group.wanted, group.adaptive) == (wanted, adaptive)
    assert (note is not None) is (max(choice.workers if not choice.maximum else 0, choice.maximum) > 10)
    assert note is None or "so it is" in note


def test_crossed_bounds_are_refused() -> None:
    """Before there is a cluster."""
    with pytest.raises(Invalid, match="minimum=6 is above maximum=5"):
        Choice(ClusterSpec(), minimum=6, maximum=5).first_group(ClusterSpec())
