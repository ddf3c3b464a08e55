"""What sizing, limiting and stopping makes of a record, and whom its history names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.model.samples import make_running
from tidegate.model import event as events
from tidegate.model import reasons, sizing
from tidegate.model.cluster import Adaptive, Cluster, ClusterState, Target
from tidegate.model.errors import Conflict, Invalid
from tidegate.model.limits import Ledger
from tidegate.model.principal import Principal

ROOT = Principal("root", admin=True)


def owner_of(cluster: Cluster) -> Principal:
    """Return whoever owns it."""
    return Principal(cluster.owner)


def test_an_owner_is_not_named_in_what_they_do():
    """It is their own cluster: the event says what, and no more."""
    cluster = make_running()

    (event,) = sizing.scale(cluster, "default", 2, owner_of(cluster), Ledger()).events

    assert (event.kind, event.message) == (events.SCALED, "2 workers are wanted")
    assert "by" not in event.data


@pytest.mark.parametrize(
    ("principal", "words", "by"),
    [
        (ROOT, "2 workers are wanted (administrator root)", "root"),
        (
            replace(ROOT, name="OWNER", admin=False, actor="root"),
            "2 workers are wanted (administrator root, on behalf of OWNER)",
            "root, on behalf of OWNER",
        ),
    ],
)
def test_an_administrator_is_named(principal: Principal, words: str, by: str):
    """Also one who acts on the owner's behalf: both stand in the event."""
    cluster = make_running()
    principal = replace(principal, name=principal.name.replace("OWNER", cluster.owner))

    (event,) = sizing.scale(cluster, "default", 2, principal, Ledger()).events

    assert event.message == words.replace("OWNER", cluster.owner)
    assert event.data["by"] == by.replace("OWNER", cluster.owner)


def test_a_limit_binds_what_is_asked_for_next():
    """The number and who set it stand in the record, and a larger size is cut to it with both."""
    cluster = make_running(wanted=5)

    limited = sizing.limit(cluster, 3, ROOT)

    assert limited.cluster.group().wanted == 5, "what runs goes on"
    assert limited.cluster.spec.max_workers_reason == "set by administrator root"
    (event,) = limited.events
    assert event.message == "At most 3 workers may run: set by administrator root"
    sized = sizing.scale(limited.cluster, "default", 9, owner_of(cluster), Ledger())
    assert sized.cluster.group().wanted == 3
    assert "(set by administrator root)" in str(sized.note)


def test_a_limit_draws_adaptive_bounds_in():
    """The load decides within what is left, and never again beyond it."""
    cluster = make_running(wanted=8)
    adapting = sizing.adapt(cluster, "default", 6, 10, owner_of(cluster), Ledger()).cluster

    group = sizing.limit(adapting, 4, ROOT).cluster.group()

    assert (group.adaptive, group.wanted) == (Adaptive(4, 4), 4)


def test_the_same_limit_twice_is_one_event():
    """Repeating it changes nothing."""
    limited = sizing.limit(make_running(), 4, ROOT).cluster

    assert sizing.limit(limited, 4, ROOT) == sizing.Sized(limited, ())


def test_what_ends_cannot_be_limited():
    """There is nothing that the limit could bind."""
    with pytest.raises(Conflict, match="has ended, or is ending"):
        sizing.limit(replace(make_running(), target=Target.STOPPED), 4, ROOT)


@pytest.mark.parametrize("value", [-1, True, 1.5, "4", None, 1_000_001])
def test_a_limit_is_a_whole_number(value: object):
    """The rule is named."""
    with pytest.raises(Invalid, match="from 0 to 1,000,000"):
        sizing.check_limit(value)


def test_an_owner_reads_who_stopped_their_cluster():
    """A reason stands in the record; the owner's own wish needs none."""
    cluster = make_running()

    assert sizing.stop(cluster, owner_of(cluster)).cluster.reason is None
    why = sizing.stop(cluster, ROOT).cluster.reason
    assert why is not None
    assert (why.code, why.message) == (reasons.STOPPED_BY, "Stopped by administrator root")


def test_who_stops_it_second_is_not_the_one():
    """The first reason stays."""
    stopping = sizing.stop(make_running(), ROOT).cluster

    assert sizing.stop(stopping, Principal("other", admin=True)).cluster == stopping
    assert stopping.state is ClusterState.RUNNING
