"""The page of limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.in_process import Gateway, gateway_in_process
from tidegate.authn.roster import Roster
from tidegate.model.amounts import Resource
from tidegate.model.limits import Rule, Rules, Subject
from tidegate.model.principal import Principal

RULES = Rules([Rule(Subject.parse("each:students"), Resource.CORES, 8)])


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that root administers, with a student's cluster."""
    roster = Roster(admins=["root"], groups={"students": ["alice"]})
    async with gateway_in_process(tmp_path, roster=roster, rules=RULES) as gateway:
        student = Principal("alice", frozenset({"students"}))
        cluster = await gateway.services.clusters.create(student, {})
        await gateway.become_running(cluster.name, workers=2)
        yield gateway


async def test_a_user_sees_limits_and_use(gateway: Gateway) -> None:
    """Of their own, and no form."""
    shown = (await gateway.browser("alice").get("/limits")).text

    assert "for each member of the group students" in shown
    assert ">2 of 8</meter>" in shown
    assert "Set a limit" not in shown
    assert "What is set" not in shown
    assert 'href="/limits"' in (await gateway.browser("alice").get("/")).text


async def test_an_administrator_sets_a_limit_and_takes_it_away(gateway: Gateway) -> None:
    """It stands among the rules, with who set it; and nobody else finds the form's address."""
    browser = gateway.browser("root")
    form = {"subject": "user:<alice>", "resource": "memory", "amount": "4 GiB"}

    answer = await browser.post("/console/limits", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/limits")
    shown = (await browser.get("/limits")).text
    assert "user:&lt;alice&gt;" in shown
    assert "4 GiB of memory for &lt;alice&gt;" in shown
    assert "the configuration" in shown
    assert (await gateway.browser("alice").post("/console/limits", data=form)).status_code == 403

    gone = await browser.post("/console/limits/unset", data=form)
    assert gone.status_code == 303
    assert await gateway.store.rules() == []


async def test_what_is_wrong_with_a_limit_is_said_on_the_page(gateway: Gateway) -> None:
    """With the rule, and what was typed is still there."""
    form = {"subject": "alice", "resource": "cores", "amount": "5"}

    answer = await gateway.browser("root").post("/console/limits", data=form)

    assert answer.status_code == 422
    assert "Cannot tell for whom this limit is: write cluster, user" in answer.text
    assert 'value="alice"' in answer.text


async def test_an_administrator_sees_everybodys(gateway: Gateway) -> None:
    """And one user's."""
    browser = gateway.browser("root")

    assert "user:alice" in (await browser.get("/limits?of=all")).text
    assert ">2 of 8</meter>" in (await browser.get("/limits?user=alice")).text
    assert ">2 of 8</meter>" not in (await browser.get("/limits")).text


async def test_a_size_that_is_cut_is_said_on_the_page_of_the_cluster(gateway: Gateway) -> None:
    """With the limit."""
    (cluster,) = await gateway.store.active()

    answer = await gateway.browser("alice").post(f"/console/clusters/{cluster.name}/size", data={"workers": "9"})

    assert "Scaling to 8 instead. (the limit is 8 cores for each member of the group students" in answer.text


async def test_a_cluster_that_is_refused_is_said_on_the_home_page(gateway: Gateway) -> None:
    """Beside the form, with limit and use."""
    root = gateway.browser("root")
    await root.post("/console/limits", data={"subject": "user", "resource": "clusters", "amount": "1"})

    answer = await gateway.browser("alice").post("/console/clusters", data={})

    assert answer.status_code == 409
    assert "the limit is 1 cluster for each user, of which 1 is in use" in answer.text
