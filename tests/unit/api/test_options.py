"""Options as each protocol tells and takes them: ours, the official client's, and the console's forms and pages."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dask_gateway.options import Options as OfficialOptions

from tests.in_process import EVERY_KIND, Gateway, gateway_in_process
from tidegate.client.options import Options, chosen


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that offers every kind of option."""
    async with gateway_in_process(tmp_path, options=EVERY_KIND) as gateway:
        yield gateway


async def made(gateway: Gateway, name: str) -> tuple[dict[str, object], Any, dict[str, str]]:
    """Return of a cluster its options, its spec and its variables."""
    cluster = await gateway.store.load(name)
    return dict(cluster.options), cluster.spec, dict((await gateway.store.credentials(cluster.name)).variables)


async def test_our_client_gets_what_it_draws(gateway: Gateway) -> None:
    """What is hidden is not told, what is secret neither; a profile comes with what it sets."""
    client = gateway.client("alice")
    reply = await client.get("/api/v2/options")
    options = Options.from_json(**reply.json())

    assert "geheim" not in reply.text
    assert "node" not in options
    assert (options.worker_cores, options.image, options.variables) == (2, "r/py:1", {"SITE": "***"})
    options.profile = "Large"
    options.image = "R"
    options.variables = {"SITE": "***", "KEY": "geheim"}
    created = await client.post("/api/v2/clusters", json={"options": chosen(options)})

    assert created.status_code == 201, created.text
    assert "geheim" not in created.text
    told, spec, variables = await made(gateway, created.json()["name"])
    assert told == {
        "profile": "large",
        "worker_cores": 16,
        "worker_memory": 8.0,
        "image": "r/r:1",
        "branch": "main",
        "variables": {"SITE": "***", "KEY": "***"},
        "spot": True,
    }
    assert (spec.worker_cores, spec.worker_memory, spec.image) == (16, 8 * 2**30, "r/r:1")
    assert spec.extra["node"] == "big"
    assert variables == {"SITE": "geheim-alice", "KEY": "geheim"}


async def test_the_official_client_draws_them_too(gateway: Gateway) -> None:
    """Labels as what is chosen among; all of the form comes back, and what stands there unchanged is the profile's."""
    client = gateway.client("alice")
    fields = (await client.get("/api/v1/options")).json()["cluster_options"]
    options = OfficialOptions._from_spec(fields)

    assert dict(options) == {
        "profile": "Small",
        "worker_cores": 2,
        "worker_memory": 2.0,
        "image": "Python",
        "branch": "main",
        "variables": {"SITE": "***"},
        "spot": True,
    }
    options.profile = "Large"
    options.image = "R"
    created = await client.post("/api/v1/clusters/", json={"cluster_options": dict(options)})
    assert created.status_code == 201, created.text
    told, _, variables = await made(gateway, created.json()["name"])
    assert (told["profile"], told["worker_cores"], told["image"]) == ("large", 16, "r/r:1")
    assert variables == {"SITE": "geheim-alice"}

    options.worker_cores = 3
    again = await client.post("/api/v1/clusters/", json={"cluster_options": dict(options)})
    assert (await made(gateway, again.json()["name"]))[0]["worker_cores"] == 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"node": "gpu"}, "Unknown fields ['node']"),
        ({"branch": "hack"}, "cannot set branch to 'hack': it must be like main or release-*"),
        ({"variables": {"NEW": "***"}}, "stands for a text that is not shown; say what 'NEW' is"),
        ({"variables": {"A-B": "geheim"}}, "cannot set environment variable number 1"),
        ({"worker_memory": 4}, "it is fixed at 2 GiB by the administrator"),
    ],
)
async def test_what_breaks_a_rule_is_refused_alike(gateway: Gateway, given: dict[str, object], words: str) -> None:
    """In both protocols, with the same sentence, which repeats nothing secret."""
    client = gateway.client("alice")
    ours = await client.post("/api/v2/clusters", json={"options": given})
    theirs = await client.post("/api/v1/clusters/", json={"cluster_options": given})

    assert (ours.status_code, theirs.status_code) == (422, 422)
    assert words in ours.json()["error"]["message"]
    assert theirs.json()["error"] == ours.json()["error"]["message"]
    assert "geheim" not in ours.text


async def test_the_console_draws_every_kind(gateway: Gateway) -> None:
    """Labels, lines, what is fixed, what a profile sets; and takes them."""
    browser = gateway.browser("alice")
    home = (await browser.get("/")).text

    assert '<option value="small" selected>Small</option>' in home
    assert "Large: Worker cores 16, Worker memory 8 GiB" in home
    assert re.search(r'name="worker_memory"[^>]* disabled', home)
    assert re.search(r'name="spot" type="checkbox" checked', home)
    assert "SITE=***" in home
    assert "It may be text like main or release-*." in home
    assert "geheim" not in home
    assert 'name="node"' not in home

    form = {
        "profile": "large",
        "worker_cores": "2",
        "image": "r/r:1",
        "branch": "release-7",
        "variables": "SITE=***\r\nKEY = geheim=x\r\n\r\n",
    }
    reply = await browser.post("/console/clusters", data=form)
    assert reply.status_code == 303, reply.text
    told, _, variables = await made(gateway, reply.headers["location"].rpartition("/")[2])
    assert (told["worker_cores"], told["image"], told["branch"], told["spot"]) == (16, "r/r:1", "release-7", False)
    assert variables == {"SITE": "geheim-alice", "KEY": "geheim=x"}
    page = (await browser.get(reply.headers["location"])).text
    assert "geheim" not in page
    assert "KEY=***" in page
    assert "<dd>R</dd>" in page


async def test_a_mistake_in_the_form_gives_nothing_secret_back(gateway: Gateway) -> None:
    """What was typed stands there again, boxes that were not ticked too; secret texts are asked for again."""
    form = {"branch": "hack", "variables": "KEY=geheim\nnonsense", "worker_cores": "4"}
    browser = gateway.browser("alice")

    lines = await browser.post("/console/clusters", data=form)
    rule = await browser.post("/console/clusters", data={**form, "variables": "KEY=geheim"})

    assert "Cannot set variables: line 2 is not NAME=text" in lines.text
    assert "Cannot set branch to" in rule.text
    for reply in (lines, rule):
        assert reply.status_code == 422
        assert "geheim" not in reply.text
        assert 'value="hack"' in reply.text
        assert not re.search(r'name="spot"[^>]* checked', reply.text)


async def test_the_reference_page_tells_all(gateway: Gateway) -> None:
    """By which name, what it may be, what holds, and what each profile sets."""
    page = (await gateway.browser("alice").get("/options")).text

    for words in ("one of r/py:1 (Python), r/r:1 (R)", "fixed by the administrator", "For trying out.", "SITE=***"):
        assert words in page
    assert "geheim" not in page
    assert "node" not in page.split("<main>")[-1]
