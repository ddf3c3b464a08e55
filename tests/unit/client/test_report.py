"""A cluster as the gateway describes it, as a value."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.client.errors import GatewayValueError
from tidegate.client.report import ClusterReport, ClusterStatus

from .conftest import CLUSTER


def report(**changes: Any) -> ClusterReport:
    """Return the report of a cluster that the gateway describes so."""
    return ClusterReport.from_json({**CLUSTER, **changes}, public_address="https://p", scheduler_netloc="proxy:8786")


def test_addresses_and_links_are_complete() -> None:
    """What the gateway gives relative to itself becomes usable."""
    running = report()

    assert running.scheduler_address == "gateway://proxy:8786/c0ffee"
    assert running.dashboard_link == "https://p/clusters/c0ffee/status"
    assert (running.workers, running.starting, running.wanted) == (1, 1, 2)


@pytest.mark.parametrize(
    ("state", "target", "status"),
    [
        ("requested", "running", "PENDING"),
        ("starting", "running", "PENDING"),
        ("running", "running", "RUNNING"),
        ("running", "stopped", "STOPPING"),
        ("stopping", "stopped", "STOPPING"),
        ("stopped", "stopped", "STOPPED"),
        ("failed", "running", "FAILED"),
        ("a state of a newer gateway", "running", "PENDING"),
    ],
)
def test_states_have_the_names_of_dask_gateway(state: str, target: str, status: str) -> None:
    """What is wanted away counts as going from that moment."""
    assert report(state=state, target=target).status.name == status


def test_a_status_is_found_by_its_name_in_any_case() -> None:
    """And a wrong name lists the right ones."""
    assert ClusterStatus.from_name("Running") is ClusterStatus.RUNNING
    with pytest.raises(GatewayValueError, match="pending, running, stopping, stopped, failed"):
        ClusterStatus.from_name("dead")


def test_an_older_gateway_says_less() -> None:
    """Keys that are missing have defaults, so that gateway and client are upgraded one after the other."""
    needed = ("name", "state", "created_at", "options", "workers")
    body = {key: CLUSTER[key] for key in needed}

    assert ClusterReport.from_json(body, public_address="", scheduler_netloc="").failures == 0


def test_an_older_gateway_lets_its_owner_do_everything() -> None:
    """It says nothing of rights, and shows nobody another's clusters."""
    told = report()

    assert told.mine
    assert told.may("connect")
    assert told.obstacle("connect to") is None


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"rights": ["see", "logs"]}, "cannot connect to cluster c0ffee: bob shares it with you to view, not to use"),
        ({"rights": []}, "cannot connect to cluster c0ffee: bob no longer shares it with you"),
        ({"rights": ["see", "logs"], "mine": True}, "cannot connect to cluster c0ffee: with a read-only token"),
        ({"rights": ["see"], "state": "stopped"}, "cannot connect to cluster c0ffee: it was stopped"),
    ],
)
def test_what_keeps_one_from_a_cluster_is_said(told: dict[str, Any], words: str) -> None:
    """That it ended comes first: then no right helps."""
    assert str(report(**{"owner": "bob", "mine": False, **told}).obstacle("connect to")).startswith(words)
