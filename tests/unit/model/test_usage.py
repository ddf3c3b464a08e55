"""Metering: what runs uses, what was used is of one day, and what is added up adds up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.store_samples import make_cluster
from tidegate.model.cluster import Cluster, ClusterSpec, ClusterState, Worker, WorkerState
from tidegate.model.prices import Prices
from tidegate.model.usage import (
    DAY_SECONDS,
    NOTHING,
    Dimension,
    Line,
    Query,
    Use,
    rate_of,
    running_lines,
    split,
    summarise,
)

MONDAY = 20_000
MIDNIGHT = float(MONDAY * DAY_SECONDS)
SPEC = ClusterSpec(worker_cores=2, worker_memory=4 * 2**30, worker_gpus=1, scheduler_cores=0.5, scheduler_memory=2**30)


def running(*workers: Worker, **values: object) -> Cluster:
    """Return a cluster that runs since a while, with these workers."""
    values = {"spec": SPEC, "state": ClusterState.RUNNING, "started_at": 1.0, "workers": workers, **values}
    return make_cluster(**values)


@pytest.mark.parametrize(
    ("worker", "uses"),
    [
        (Worker("w", state=WorkerState.REQUESTED), False),
        (Worker("w", state=WorkerState.STARTING), False),
        (Worker("w", state=WorkerState.RUNNING, started_at=2.0), True),
        (Worker("w", state=WorkerState.STOPPING, started_at=2.0), True),
        (Worker("w", state=WorkerState.STOPPING), False),
        (Worker("w", state=WorkerState.ENDED, started_at=2.0), False),
    ],
    ids=lambda value: value.state.value if isinstance(value, Worker) else "",
)
def test_a_worker_uses_from_when_it_runs_until_nothing_of_it_is_left(worker: Worker, uses: bool) -> None:
    """What was only asked for, or never came to run, uses nothing."""
    scheduler = Use(0.5, 1.0)
    assert rate_of(running(worker)) == (Use(2.5, 5.0, 1.0) if uses else scheduler)


@pytest.mark.parametrize("state", [ClusterState.REQUESTED, ClusterState.STARTING, ClusterState.STOPPED])
def test_a_scheduler_uses_while_its_cluster_runs_or_stops(state: ClusterState) -> None:
    """Not before, nor after; and one that never came to run uses nothing while it is taken away."""
    assert rate_of(running()) == rate_of(running(state=ClusterState.STOPPING)) == Use(0.5, 1.0)
    assert rate_of(running(state=state)) == NOTHING
    assert rate_of(running(state=ClusterState.STOPPING, started_at=None)) == NOTHING


def test_a_scheduler_without_a_size_uses_nothing() -> None:
    """As on one machine, where nothing is set aside for it."""
    assert rate_of(running(spec=ClusterSpec())) == NOTHING


def test_what_runs_costs_what_the_cluster_was_made_at() -> None:
    """Each resource by the hour."""
    cluster = running(Worker("w", state=WorkerState.RUNNING), prices=Prices(0.04, 0.01, 1.5))
    assert rate_of(cluster).cost * 3600 == pytest.approx(2.5 * 0.04 + 5 * 0.01 + 1.5)


def test_a_night_is_of_two_days() -> None:
    """What is used is split at midnight UTC, to the second."""
    night = dict(split(Use(1.0), MIDNIGHT - 3600, MIDNIGHT + 1800))
    assert night == {MONDAY - 1: Use(3600.0), MONDAY: Use(1800.0)}


def test_a_clock_that_is_set_back_uses_nothing() -> None:
    """What was counted stays; no second is taken back."""
    assert list(split(Use(1.0), MIDNIGHT, MIDNIGHT - 10)) == []
    assert list(split(NOTHING, MIDNIGHT, MIDNIGHT + 10)) == []


@given(
    rate=st.builds(Use, *[st.floats(0.01, 1e4)] * 4),
    since=st.floats(0, 4e9),
    length=st.floats(0, 90 * DAY_SECONDS),
)
def test_the_days_add_up_to_the_whole(rate: Use, since: float, length: float) -> None:
    """Whatever is split: no second is lost or counted twice, and no day has more than there are in it."""
    days = list(split(rate, since, since + length))
    total = sum((use for _, use in days), NOTHING)

    assert total.core_seconds == pytest.approx(
        rate.core_seconds * (since + length - since), abs=rate.core_seconds * 1e-5
    )
    assert [day for day, _ in days] == sorted({day for day, _ in days})
    assert all(use.core_seconds <= rate.core_seconds * DAY_SECONDS * (1 + 1e-9) for _, use in days)


def line(seconds: float, day: int, user: str, cluster: str, *groups: str) -> Line:
    """Return what a cluster used on a day."""
    return Line(Use(seconds), day, user, None, cluster, f"{user}s", groups)


LINES = [
    line(10, MONDAY, "alice", "a", "staff", "ice"),
    line(20, MONDAY, "bob", "b", "ice"),
    line(30, MONDAY + 1, "alice", "a", "staff", "ice"),
    line(40, MONDAY + 1, "carol", "c"),
    line(99, MONDAY + 2, "alice", "a", "staff"),
]
TWO_DAYS = Query(MONDAY, MONDAY + 1)


def told(lines: Iterable[Line], *dimensions: str) -> dict[object, float]:
    """Return what was used by what it is told apart by."""
    return {tuple(getattr(one, name) for name in dimensions): one.use.core_seconds for one in lines}


@pytest.mark.parametrize(
    ("by", "names", "sums"),
    [
        ((), (), {(): 100}),
        ((Dimension.DAY,), ("day",), {(MONDAY,): 30, (MONDAY + 1,): 70}),
        ((Dimension.USER,), ("user",), {("alice",): 40, ("bob",): 20, ("carol",): 40}),
        ((Dimension.GROUP,), ("group",), {("",): 40, ("ice",): 60, ("staff",): 40}),
        ((Dimension.CLUSTER,), ("cluster", "user", "alias"), {
            ("a", "alice", "alices"): 40, ("b", "bob", "bobs"): 20, ("c", "carol", "carols"): 40,
        }),
        ((Dimension.DAY, Dimension.USER), ("day", "user"), {
            (MONDAY, "alice"): 10, (MONDAY, "bob"): 20, (MONDAY + 1, "alice"): 30, (MONDAY + 1, "carol"): 40,
        }),
    ],
    ids=["whole", "day", "user", "group", "cluster", "day and user"],
)  # fmt: skip
def test_use_is_told_apart(by: tuple[Dimension, ...], names: tuple[str, ...], sums: dict[object, float]) -> None:
    """By whatever is asked, for the days that are asked; in order, and with the same whole."""
    books = summarise(LINES, replace(TWO_DAYS, by=frozenset(by)))

    assert told(books.lines, *names) == sums
    assert list(told(books.lines, *names)) == sorted(sums)
    assert books.total.core_seconds == 100


def test_only_what_is_asked_for_counts() -> None:
    """Of a user, of a cluster, of a group: that one alone, also where somebody is in several."""
    by_group = frozenset({Dimension.GROUP})
    assert summarise(LINES, replace(TWO_DAYS, user="alice")).total.core_seconds == 40
    assert summarise(LINES, replace(TWO_DAYS, cluster="b")).total.core_seconds == 20
    staff = summarise(LINES, replace(TWO_DAYS, group="staff", by=by_group))
    assert (told(staff.lines, "group"), staff.total.core_seconds) == ({("staff",): 40}, 40)
    assert summarise([], TWO_DAYS).total == NOTHING


def test_what_runs_counts_from_when_it_was_booked_last() -> None:
    """Day by day, with whose it is; nothing where it was never booked."""
    cluster = running(spec=ClusterSpec(scheduler_cores=1), owner_groups=("ice",), alias="training")
    found = list(running_lines(cluster, MIDNIGHT - 5, MIDNIGHT + 7))

    assert [(one.day, one.use.core_seconds) for one in found] == [(MONDAY - 1, 5.0), (MONDAY, 7.0)]
    assert {(one.user, one.cluster, one.alias, one.groups) for one in found} == {
        ("alice", cluster.name, "training", ("ice",))
    }
    assert list(running_lines(cluster, None, MIDNIGHT)) == []
