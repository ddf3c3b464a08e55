"""Sharing in the console: whose clusters are listed, what others are offered, and what the forms do."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.in_process import NOW, Gateway, gateway_in_process
from tidegate.authn.roster import Roster
from tidegate.control.shares import SharingRules
from tidegate.model.cluster import Cluster
from tidegate.model.principal import Principal
from tidegate.model.share import Right

from .test_pages import text_of

ROSTER = Roster(admins=("root",), groups={"physics": ("carol",)})


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with an administrator, root, and a group, physics, of carol."""
    async with gateway_in_process(tmp_path, roster=ROSTER) as gateway:
        yield gateway


async def running(gateway: Gateway, **shares: Right) -> Cluster:
    """Return a running cluster of alice's, shared so."""
    cluster = await gateway.create("alice")
    await gateway.become_running(cluster.name, workers=1)
    for user, right in shares.items():
        await gateway.services.shares.give(Principal("alice"), cluster.name, f"user:{user}", right)
    return cluster


def actions(page: str) -> set[str]:
    """Return what the forms and links of a cluster's page do."""
    found = re.findall(r'(?:action|href|hx-get)="[^"]*/clusters/[0-9a-f]{16}/([a-z/]+)"', page)
    return set(found) - {"live"}


async def test_each_list_shows_whose_clusters_it_says(gateway: Gateway) -> None:
    """One's own; others' that are shared, by name or by a group; and for an administrator everybody's."""
    mine, theirs = await gateway.create("bob"), await running(gateway, bob=Right.VIEW)
    await gateway.services.shares.give(Principal("alice"), theirs.name, "group:physics", Right.VIEW)
    hidden = await gateway.create("mallory")
    names = {mine.name: "mine", theirs.name: "theirs", hidden.name: "hidden"}

    async def listed(user: str, path: str) -> set[str]:
        page = (await gateway.browser(user).get(path)).text
        return {word for name, word in names.items() if f"/clusters/{name}" in page}

    assert await listed("bob", "/") == {"mine"}
    assert await listed("bob", "/?of=shared") == {"theirs"}
    assert await listed("bob", "/?of=all") == {"mine", "theirs"}
    assert await listed("bob", "/?of=nonsense") == {"mine"}
    assert await listed("bob", "/?of=all&owner=mallory") == set()
    assert await listed("carol", "/?of=shared") == {"theirs"}
    assert await listed("root", "/") == set()
    assert await listed("root", "/?of=all") == {"mine", "theirs", "hidden"}
    assert await listed("root", "/?of=all&owner=mallory") == {"hidden"}


async def test_the_lists_are_tabs(gateway: Gateway) -> None:
    """The administrator has one more; others' clusters show their owner; new ones are made on one's own list."""
    await running(gateway, bob=Right.VIEW)

    bobs = (await gateway.browser("bob").get("/?of=shared")).text
    roots = (await gateway.browser("root").get("/?of=all")).text
    alices = (await gateway.browser("alice").get("/")).text

    assert re.findall(r'<a href="([^"]+)"(?: aria-current="page")?>(Mine|Shared with me|All)<', bobs) == [
        ("/", "Mine"),
        ("/?of=shared", "Shared with me"),
    ]
    assert 'href="/?of=all" aria-current="page">All<' in roots
    for page in (bobs, roots):
        assert ">alice</a>" in page
        assert "New cluster" not in page
    assert ">alice</a>" not in alices
    assert 'sse-connect="/console/live?of=shared&amp;as=bob"' in bobs


@pytest.mark.parametrize(
    ("user", "offered"),
    [
        ("alice", {"status", "stop", "size", "shares", "links", "logs"}),
        ("bob", {"status", "logs"}),
        ("carol", {"status", "logs"}),
        ("root", {"status", "stop", "size", "shares", "links", "logs", "limit"}),
    ],
)
async def test_a_page_offers_what_one_may(gateway: Gateway, user: str, offered: set[str]) -> None:
    """The owner, somebody who may use it, somebody who may view it, an administrator; each told whose it is."""
    cluster = await running(gateway, bob=Right.USE, carol=Right.VIEW)

    page = (await gateway.browser(user).get(f"/clusters/{cluster.name}")).text

    assert actions(page) - {"shares/withdraw"} == offered
    assert ("belongs to alice" in page) is (user != "alice")
    assert ("From a notebook" in page) is (user in ("alice", "bob"))
    # Who else has it is shown to those who may share it.
    assert ("bob user, may use" in text_of(page)) is ("shares" in offered)


async def test_a_cluster_that_ended_offers_logs_alone(gateway: Gateway) -> None:
    """To whoever saw it before, too."""
    cluster = await running(gateway, bob=Right.USE)
    await gateway.become_failed(cluster.name)

    for user in ("alice", "bob", "root"):
        page = (await gateway.browser(user).get(f"/clusters/{cluster.name}")).text
        assert actions(page) == {"logs"}


async def test_a_share_is_given_changed_and_withdrawn_by_the_forms(gateway: Gateway) -> None:
    """What one has given stands on the page until it is withdrawn."""
    cluster = await running(gateway)
    alice, url = gateway.browser("alice"), f"/console/clusters/{cluster.name}/shares"

    async def shown() -> str:
        return text_of((await alice.get(f"/clusters/{cluster.name}")).text)

    assert "This cluster is shared with nobody" in await shown()
    given = await alice.post(url, data={"kind": "user", "name": " bob ", "right": "view"})
    assert "bob user, may view" in await shown()
    await alice.post(url, data={"kind": "user", "name": "bob", "right": "use"})
    assert "bob user, may use" in await shown()
    assert (given.status_code, given.headers["location"]) == (303, f"/clusters/{cluster.name}#sharing")

    gone = await alice.post(f"{url}/withdraw", data={"kind": "user", "name": "bob"})
    assert gone.status_code == 303
    assert "This cluster is shared with nobody" in await shown()
    assert (await gateway.browser("bob").get(f"/clusters/{cluster.name}")).status_code == 404


@pytest.mark.parametrize(
    "form",
    [
        {"kind": "user", "name": "", "right": "view"},
        {"kind": "robot", "name": "bob", "right": "view"},
        {"kind": "user", "name": "bob", "right": "own"},
        {"kind": "user", "name": "alice", "right": "view"},
        {"kind": "user", "name": "b" * 300, "right": "view"},
        {},
    ],
)
async def test_a_share_that_cannot_be_is_explained(gateway: Gateway, form: dict[str, str]) -> None:
    """On the cluster's page."""
    cluster = await running(gateway)

    reply = await gateway.browser("alice").post(f"/console/clusters/{cluster.name}/shares", data=form)

    assert reply.status_code == 422
    assert re.search(r'role="alert">Cannot ', reply.text), text_of(reply.text)[:400]
    assert (await gateway.store.load(cluster.name)).shares == ()


async def test_a_link_is_made_shown_once_and_withdrawn(gateway: Gateway) -> None:
    """Its address is on the answer alone, beside a button that copies it."""
    cluster = await running(gateway)
    alice, url = gateway.browser("alice"), f"/console/clusters/{cluster.name}/links"

    made = await alice.post(url, data={"seconds": "3600", "label": "for <you>"})
    shown = re.search(r'id="link">([^<]+)</pre>', made.text)
    (link,) = (await gateway.store.load(cluster.name)).links
    page = (await alice.get(f"/clusters/{cluster.name}")).text

    assert shown is not None
    assert html.unescape(shown[1]).startswith("http://gateway.test/shared/")
    assert 'data-copy="link"' in made.text
    assert "no-store" in made.headers["cache-control"]
    assert (link.label, link.expires_at, link.created_by) == ("for <you>", NOW + 3600, "alice")
    assert shown[1] not in page
    assert "for &lt;you&gt;" in page
    assert "expires in 1 h" in page

    assert (await alice.post(f"{url}/{link.id}/withdraw")).status_code == 303
    assert (await gateway.store.load(cluster.name)).links == ()


@pytest.mark.parametrize(
    ("seconds", "label"),
    [*((seconds, "") for seconds in ("", "x", "-1", "0", "99999999999")), ("60", "nib\u202egro"), ("60", "x" * 101)],
)
async def test_a_link_that_cannot_be_is_explained(gateway: Gateway, seconds: str, label: str) -> None:
    """With the longest that there may be, or what a label is."""
    cluster = await running(gateway)

    reply = await gateway.browser("alice").post(
        f"/console/clusters/{cluster.name}/links", data={"seconds": seconds, "label": label}
    )

    assert reply.status_code == 422
    assert 'role="alert">Cannot make a link' in reply.text


@pytest.mark.parametrize(
    ("rules", "words", "forms"),
    [
        (SharingRules(enabled=False), "does not allow it", set()),
        (SharingRules(groups=("staff",)), "members of staff may", set()),
        (SharingRules(links=False), "To use is to connect", {"shares"}),
        (SharingRules(own_hosts=False), "To use is to connect", {"shares"}),
    ],
)
async def test_what_the_administrator_does_not_allow_is_not_offered(
    tmp_path: Path, rules: SharingRules, words: str, forms: set[str]
) -> None:
    """Why not stands in the place of the forms."""
    async with gateway_in_process(tmp_path, sharing=rules) as gateway:
        cluster = await running(gateway)
        page = (await gateway.browser("alice").get(f"/clusters/{cluster.name}")).text

        assert words in text_of(page)
        assert actions(page) & {"shares", "links"} == forms


async def test_a_link_can_be_as_long_as_is_allowed(tmp_path: Path) -> None:
    """The choices end there."""
    async with gateway_in_process(tmp_path, sharing=SharingRules(longest_link=8 * 3600)) as gateway:
        cluster = await running(gateway)
        page = (await gateway.browser("alice").get(f"/clusters/{cluster.name}")).text

        assert re.findall(r'<option value="(\d+)">', page) == ["3600", "28800"]


async def test_an_administrator_limits_somebodys_cluster(gateway: Gateway) -> None:
    """The page then says who did it; nobody else may, and nonsense is explained."""
    cluster = await running(gateway)
    root, url = gateway.browser("root"), f"/console/clusters/{cluster.name}/limit"

    reply = await root.post(url, data={"limit": "3"})
    page = text_of((await gateway.browser("alice").get(f"/clusters/{cluster.name}")).text)
    wrong = await root.post(url, data={"limit": "-3"})

    assert reply.status_code == 303
    assert (await gateway.store.load(cluster.name)).spec.max_workers == 3
    assert "At most 3 workers: set by administrator root" in page
    assert wrong.status_code == 422
    assert (await gateway.browser("alice").post(url, data={"limit": "30"})).status_code == 403


async def test_stopping_somebodys_cluster_says_whose_it_is(gateway: Gateway) -> None:
    """Before it is done."""
    cluster = await running(gateway)

    page = (await gateway.browser("root").get("/?of=all")).text

    assert f"Stop cluster {cluster.name} of alice?" in page


FORMS: list[tuple[str, dict[str, Any]]] = [
    ("shares", {"kind": "user", "name": "mallory", "right": "use"}),
    ("shares/withdraw", {"kind": "user", "name": "bob"}),
    ("links", {"seconds": "60", "label": ""}),
    ("limit", {"limit": "0"}),
]


@pytest.mark.parametrize(("form", "data"), FORMS)
async def test_who_may_not_share_changes_nothing(gateway: Gateway, form: str, data: dict[str, str]) -> None:
    """Somebody with a share, somebody without (for whom there is no such cluster), and a foreign page."""
    cluster = await running(gateway, bob=Right.USE)
    before = await gateway.store.load(cluster.name)
    url = f"/console/clusters/{cluster.name}/{form}"

    answers = [
        (await gateway.browser("bob").post(url, data=data)).status_code,
        (await gateway.browser("mallory").post(url, data=data)).status_code,
        (await gateway.browser("alice", **{"Sec-Fetch-Site": "same-site"}).post(url, data=data)).status_code,
    ]

    assert answers == [403, 404, 401]
    assert await gateway.store.load(cluster.name) == before
