"""Names that owners give their clusters: taken when one is made, and understood wherever a path names a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.in_process import Gateway, gateway_in_process
from tidegate.authn.roster import Roster
from tidegate.model.audit import Wanted
from tidegate.wire.names import ON_BEHALF_HEADER

URL = "/api/v2/clusters"


async def make(gateway: Gateway, user: str = "alice", **body: Any) -> dict[str, Any]:
    """Create a cluster over the API, called ``training`` unless ``body`` says otherwise."""
    reply = await gateway.client(user).post(URL, json={"alias": "training", **body})
    assert reply.status_code == 201, reply.text
    cluster: dict[str, Any] = reply.json()
    return cluster


async def test_a_cluster_has_the_name_and_labels_that_it_was_given(gateway: Gateway) -> None:
    """Beside its global name, which is not made from them; another has neither."""
    cluster = await make(gateway, labels={"project": "ice"})
    plain = (await gateway.client("alice").post(URL, json={})).json()

    assert (cluster["alias"], cluster["labels"]) == ("training", {"project": "ice"})
    assert len(cluster["name"]) == 16
    assert (plain["alias"], plain["labels"]) == (None, {})
    assert cluster["scheduler"]["sni"] == f"daskgateway-{cluster['name']}"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "", 200),
        ("PATCH", "", 200),
        ("GET", "/credentials", 200),
        ("GET", "/logs", 200),
        ("GET", "/shares", 200),
        ("PUT", "/shares/user:bob", 200),
        ("GET", "/links", 200),
        ("DELETE", "", 202),
    ],
)
async def test_its_owner_can_write_it_wherever_a_cluster_is_named(
    gateway: Gateway, method: str, path: str, status: int
) -> None:
    """Every answer, and the audit log, speaks of the cluster by its global name."""
    cluster = await make(gateway)
    await gateway.become_running(cluster["name"])
    body = {"PATCH": {"workers": 1}, "PUT": {"right": "view"}}.get(method)

    reply = await gateway.client("alice").request(method, f"{URL}/training{path}", json=body)

    assert reply.status_code == status
    if path == "/credentials":
        assert reply.json()["sni"] == f"daskgateway-{cluster['name']}"
    if path == "":
        assert reply.json()["name"] == cluster["name"]
    entries = await gateway.store.find_audit(Wanted())
    assert {recorded.entry.cluster for recorded in entries} == {cluster["name"]}


async def test_to_others_it_means_nothing(gateway: Gateway) -> None:
    """The same to the byte as a name that never was, or a cluster of their own."""
    theirs = await make(gateway)
    mallory = gateway.client("mallory")

    foreign, nonsense = await mallory.get(f"{URL}/training"), await mallory.get(f"{URL}/nonsense")
    assert foreign.status_code == nonsense.status_code == 404
    assert foreign.text == nonsense.text.replace("nonsense", "training")

    mine = await make(gateway, "mallory")
    assert (await mallory.get(f"{URL}/training")).json()["name"] == mine["name"] != theirs["name"]


async def test_a_name_is_in_use_until_its_cluster_is_stopped(gateway: Gateway) -> None:
    """Then the next one has it, and as long as there is none it means the last one."""
    first = await make(gateway)
    alice = gateway.client("alice")

    refused = await alice.post(URL, json={"alias": "training"})
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "name-taken"
    assert first["name"] in refused.json()["error"]["message"]

    await alice.delete(f"{URL}/training")
    assert (await alice.get(f"{URL}/training")).json()["name"] == first["name"]
    second = await make(gateway)
    assert (await alice.get(f"{URL}/training")).json()["name"] == second["name"]


@pytest.mark.parametrize("body", [{"alias": "Not A Name"}, {"labels": {"a b": "c"}}, {"labels": 7}, {"alias": ["x"]}])
async def test_what_is_no_name_and_no_label_is_refused(gateway: Gateway, body: dict[str, Any]) -> None:
    """422, by field; nothing is recorded."""
    reply = await gateway.client("alice").post(URL, json=body)

    assert reply.status_code == 422
    assert reply.json()["error"]["field"] == next(iter(body))
    assert (await gateway.client("alice").get(URL)).json()["clusters"] == []


async def test_the_official_client_finds_it_too(gateway: Gateway) -> None:
    """Its report bears the global name and no key more."""
    cluster = await make(gateway)
    await gateway.become_running(cluster["name"])

    report = (await gateway.client("alice").get("/api/v1/clusters/training")).json()
    assert report["name"] == cluster["name"]
    assert "alias" not in report


async def test_an_administrator_says_it_on_behalf_of_the_owner(tmp_path: Path) -> None:
    """As themselves they have names of their own."""
    async with gateway_in_process(tmp_path, roster=Roster(admins=("mallory",))) as gateway:
        cluster = await make(gateway)
        root = gateway.client("mallory")

        assert (await root.get(f"{URL}/training")).status_code == 404
        found = await root.get(f"{URL}/training", headers={ON_BEHALF_HEADER: "alice"})
        assert found.json()["name"] == cluster["name"]


async def test_a_page_is_found_by_it(gateway: Gateway) -> None:
    """The console shows the name, and acts on the global one."""
    cluster = await make(gateway, labels={"project": "ice"})
    browser = gateway.browser("alice")

    page = (await browser.get("/clusters/training")).text
    assert '<h1 class="name">training</h1>' in page
    assert f'action="/console/clusters/{cluster["name"]}/stop"' in page
    assert 'connect("training")' in page
    assert "<dt>project</dt><dd>ice</dd>" in page
    assert ">training</a>" in (await browser.get("/")).text
