"""Shares and links over the API: who gives what to whom, what they see of it, and that nothing shows a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.in_process import Gateway, Reader, gateway_in_process, names_of
from tidegate.authn.roster import Roster
from tidegate.authn.tokens import mint_token
from tidegate.control.shares import SHARES_LIMIT, SharingRules
from tidegate.model.cluster import Cluster
from tidegate.model.principal import Principal, Scope
from tidegate.model.share import Right
from tidegate.wire.tickets import verify

CLUSTERS = "/api/v2/clusters"


@pytest.fixture
async def cluster(gateway: Gateway) -> Cluster:
    """A cluster of alice's that runs."""
    made = await gateway.create("alice")
    return await gateway.become_running(made.name, workers=1)


async def ask(gateway: Gateway, user: str | None, method: str, path: str, **settings: Any) -> Any:
    """Send one request as a program."""
    return await gateway.client(user).request(method, path, **settings)


async def share(gateway: Gateway, name: str, grantee: str, right: str = "view", user: str = "alice") -> Any:
    """Give a share."""
    return await ask(gateway, user, "PUT", f"{CLUSTERS}/{name}/shares/{grantee}", json={"right": right})


async def test_who_is_given_a_share_sees_the_cluster(gateway: Gateway, cluster: Cluster) -> None:
    """A viewer finds it by name and in the list of what is shared, not in their own; whose it is and what they may do
    with it stands there, and with whom else it is shared does not.
    """
    given = await share(gateway, cluster.name, "user:mallory")
    await share(gateway, cluster.name, "user:bob")

    shown = await ask(gateway, "mallory", "GET", f"{CLUSTERS}/{cluster.name}")
    shared, mine, everything = [
        (await ask(gateway, "mallory", "GET", CLUSTERS, params={"of": of})).json()["clusters"]
        for of in ("shared", "mine", "all")
    ]
    assert given.status_code == 200
    assert given.json()["grantee"] == "user:mallory"
    assert (given.json()["right"], given.json()["created_by"]) == ("view", "alice")
    assert shown.json()["owner"] == "alice"
    assert shown.json()["rights"] == ["see", "logs", "dashboard"]
    assert (shown.json()["shares"], shown.json()["links"]) == ([], [])
    assert names_of(shared) == names_of(everything) == [cluster.name]
    assert (shared[0]["rights"], shared[0]["shares"]) == (["see", "logs", "dashboard"], [])
    assert mine == []


async def test_the_owner_reads_what_they_share(gateway: Gateway, cluster: Cluster) -> None:
    """In the list of shares and in the cluster itself; a read-only token of theirs reads it too, and gives nothing."""
    await share(gateway, cluster.name, "user:bob", "use")
    await share(gateway, cluster.name, "group:physics")
    _, gateway.tokens["reading"] = await mint_token(
        gateway.store, Principal("alice"), "r", now=gateway.clock.now, scope=Scope.READ_ONLY
    )

    shares = (await ask(gateway, "reading", "GET", f"{CLUSTERS}/{cluster.name}/shares")).json()["shares"]
    body = (await ask(gateway, "alice", "GET", f"{CLUSTERS}/{cluster.name}")).json()
    refused = await share(gateway, cluster.name, "user:eve", user="reading")

    assert [(s["grantee"], s["right"]) for s in shares] == [("user:bob", "use"), ("group:physics", "view")]
    assert body["shares"] == shares
    assert body["rights"] == ["see", "connect", "scale", "stop", "logs", "dashboard", "share"]
    assert refused.status_code == 403


async def test_giving_again_changes_the_right_and_nothing_else(gateway: Gateway, cluster: Cluster) -> None:
    """One share for each grantee; the same one given twice changes nothing, not even the record."""
    await share(gateway, cluster.name, "user:bob")
    before = await gateway.store.load(cluster.name)
    await share(gateway, cluster.name, "user:bob")
    assert await gateway.store.load(cluster.name) == before

    await share(gateway, cluster.name, "user:bob", "use")
    shares = (await gateway.store.load(cluster.name)).shares
    assert [(str(s.grantee), s.right.value) for s in shares] == [("user:bob", "use")]


async def test_what_is_withdrawn_is_gone(gateway: Gateway, cluster: Cluster) -> None:
    """Afterwards the cluster is what never was, to the byte; withdrawing it again, or what was never given, is fine."""
    await share(gateway, cluster.name, "user:mallory", "use")
    path = f"{CLUSTERS}/{cluster.name}"
    assert (await ask(gateway, "mallory", "GET", path)).status_code == 200

    for grantee in ("user:mallory", "user:mallory", "user:nobody"):
        assert (await ask(gateway, "alice", "DELETE", f"{path}/shares/{grantee}")).status_code == 204

    for method, below in (("GET", ""), ("GET", "/credentials"), ("GET", "/logs"), ("GET", "/shares"), ("DELETE", "")):
        reply = await ask(gateway, "mallory", method, path + below)
        absent = await ask(gateway, "mallory", method, f"{CLUSTERS}/x{below}")
        assert (reply.status_code, reply.content) == (404, absent.content)
    assert (await ask(gateway, "mallory", "GET", f"{CLUSTERS}?of=all")).json()["clusters"] == []
    assert (await gateway.store.load(cluster.name)).share_epoch == 1


@pytest.mark.parametrize("right", ["view", "use"])
async def test_a_share_is_no_ownership(gateway: Gateway, cluster: Cluster, right: str) -> None:
    """Neither right resizes, stops or shares; the refusal says whose it is and what the share is for."""
    await share(gateway, cluster.name, "user:mallory", right)
    path = f"{CLUSTERS}/{cluster.name}"
    before = await gateway.store.load(cluster.name)

    refused = [
        await ask(gateway, "mallory", "PATCH", path, json={"workers": 3}),
        await ask(gateway, "mallory", "DELETE", path),
        await ask(gateway, "mallory", "GET", f"{path}/shares"),
        await share(gateway, cluster.name, "user:mallory", "use", user="mallory"),
        await ask(gateway, "mallory", "DELETE", f"{path}/shares/user:mallory"),
        await ask(gateway, "mallory", "POST", f"{path}/links", json={}),
        await ask(gateway, "mallory", "GET", f"{path}/links"),
        await ask(gateway, "mallory", "DELETE", f"{path}/links/x"),
    ]

    for reply in refused:
        assert reply.status_code == 403
        assert f"it belongs to alice, who shares it with you to {right} only" in reply.json()["error"]["message"]
    assert await gateway.store.load(cluster.name) == before


async def test_a_viewer_gets_no_credentials(gateway: Gateway, cluster: Cluster) -> None:
    """In neither protocol, also before it runs; what the official client shows says why."""
    await share(gateway, cluster.name, "user:mallory")
    starting = (await gateway.create("alice")).name
    await share(gateway, starting, "user:mallory")

    ours = await ask(gateway, "mallory", "GET", f"{CLUSTERS}/{cluster.name}/credentials")
    names = (cluster.name, cluster.name + "?wait", starting, starting + "?wait")
    theirs = [await ask(gateway, "mallory", "GET", f"/api/v1/clusters/{name}") for name in names]
    listed = await ask(gateway, "mallory", "GET", "/api/v1/clusters/")

    assert ours.status_code == 403
    for reply in theirs:
        assert reply.status_code == 409  # it keeps the words of this status, and not those of 403
        assert "cannot connect to cluster" in reply.json()["error"]
        assert "BEGIN" not in reply.text
    assert listed.json() == {}


async def test_a_user_gets_a_certificate_of_their_own(gateway: Gateway, cluster: Cluster) -> None:
    """Not the owner's, the same one each time, and both protocols hand out the same; nothing else shows it."""
    await share(gateway, cluster.name, "user:mallory", "use")
    path = f"{CLUSTERS}/{cluster.name}"

    first, again = [(await ask(gateway, "mallory", "GET", f"{path}/credentials")).json() for _ in range(2)]
    old = (await ask(gateway, "mallory", "GET", f"/api/v1/clusters/{cluster.name}?wait")).json()
    owners = (await ask(gateway, "alice", "GET", f"{path}/credentials")).json()

    assert first == again
    assert (old["tls_cert"], old["tls_key"]) == (first["certificate"], first["key"])
    assert first["key"] != owners["key"]
    assert first["certificate"].split("-----END")[0] != owners["certificate"].split("-----END")[0]
    for user in ("alice", "mallory"):
        for where in (path, CLUSTERS + "?of=all", path + "/events", "/api/v1/clusters/"):
            if where.endswith("/events"):
                continue
            assert "PRIVATE KEY" not in (await ask(gateway, user, "GET", where)).text


@pytest.mark.parametrize(
    ("grantee", "words"),
    [
        ("bob", "write user:NAME or group:NAME"),
        ("role:bob", "write user:NAME or group:NAME"),
        ("user:", "a name has 1 to 255 printable characters"),
        ("user:%20bob", "a name has 1 to 255 printable characters"),
        ("group:a%7Fb", "a name has 1 to 255 printable characters"),
        ("user:" + "x" * 256, "a name has 1 to 255 printable characters"),
        ("user:alice", "it is theirs"),
    ],
)
async def test_nobody_is_shared_with_who_cannot_be(
    gateway: Gateway, cluster: Cluster, grantee: str, words: str
) -> None:
    """Who is meant must be plausible, and somebody else; the refusal names the rule and the field."""
    reply = await share(gateway, cluster.name, grantee)

    assert reply.status_code == 422
    assert words in reply.json()["error"]["message"]
    assert reply.json()["error"]["field"] == "grantee"
    assert (await gateway.store.load(cluster.name)).shares == ()


async def test_names_of_directories_work(gateway: Gateway, cluster: Cluster) -> None:
    """Slashes, colons, blanks inside and other scripts: as OpenID Connect and Kerberos give them."""
    for name in ("group:%2Fdepartment%2Fphysics", "user:bob%40EXAMPLE.ORG", "user:urn:x:y", "group:Лаб 7"):
        assert (await share(gateway, cluster.name, name)).status_code == 200

    grantees = [str(s.grantee) for s in (await gateway.store.load(cluster.name)).shares]
    assert grantees == ["group:/department/physics", "user:bob@EXAMPLE.ORG", "user:urn:x:y", "group:Лаб 7"]
    assert (
        await ask(gateway, "alice", "DELETE", f"{CLUSTERS}/{cluster.name}/shares/group:%2Fdepartment%2Fphysics")
    ).status_code == 204
    assert len((await gateway.store.load(cluster.name)).shares) == 3


async def test_a_right_that_is_none_is_refused(gateway: Gateway, cluster: Cluster) -> None:
    """There are two."""
    reply = await share(gateway, cluster.name, "user:bob", "own")
    assert reply.status_code == 422
    assert "'view' or 'use'" in reply.json()["error"]["message"]


async def test_a_cluster_that_ended_is_not_shared(gateway: Gateway, cluster: Cluster) -> None:
    """Neither with people nor by links; what was shared can still be withdrawn."""
    await share(gateway, cluster.name, "user:mallory")
    await gateway.become_failed(cluster.name)

    given = await share(gateway, cluster.name, "user:bob")
    link = await ask(gateway, "alice", "POST", f"{CLUSTERS}/{cluster.name}/links", json={})
    withdrawn = await ask(gateway, "alice", "DELETE", f"{CLUSTERS}/{cluster.name}/shares/user:mallory")

    assert (given.status_code, link.status_code, withdrawn.status_code) == (409, 409, 204)
    assert "it has ended" in given.json()["error"]["message"]


async def test_there_is_an_end_to_shares(gateway: Gateway, cluster: Cluster) -> None:
    """The limit is named, and a group is what helps."""
    for number in range(SHARES_LIMIT):
        await gateway.services.shares.give(Principal("alice"), cluster.name, f"user:u{number}", Right.VIEW)
    reply = await share(gateway, cluster.name, "user:one-more")
    assert reply.status_code == 409
    assert "Share it with a group" in reply.json()["error"]["message"]


async def test_what_the_administrator_allows_counts(tmp_path: Path) -> None:
    """Sharing off, for some groups only, without links, or with short ones: each refusal says so. What there is can
    be withdrawn all the same.
    """
    roster = Roster(groups={"staff": ["mallory"]})
    for rules, who, words in (
        (SharingRules(enabled=False), "alice", "does not allow it"),
        (SharingRules(groups=("staff",)), "alice", "members of staff may, and you are not one"),
        (SharingRules(groups=("staff",)), "mallory", ""),
    ):
        async with gateway_in_process(tmp_path / words[:9] / who, sharing=rules, roster=roster) as gateway:
            name = (await gateway.create(who)).name
            reply = await share(gateway, name, "user:bob", user=who)
            assert reply.status_code == (403 if words else 200)
            assert words in reply.text
            assert (await ask(gateway, who, "DELETE", f"{CLUSTERS}/{name}/shares/user:bob")).status_code == 204


@pytest.mark.parametrize(
    ("rules", "status", "words"),
    [
        (SharingRules(links=False), 403, "does not allow links"),
        (SharingRules(own_hosts=False), 403, "no host names of their own"),
        (SharingRules(longest_link=60.0), 422, "at most 1 minute"),
        (SharingRules(enabled=False), 403, "does not allow it"),
    ],
)
async def test_links_are_as_the_administrator_allows(
    tmp_path: Path, rules: SharingRules, status: int, words: str
) -> None:
    """The refusal says which rule it is."""
    async with gateway_in_process(tmp_path, sharing=rules) as gateway:
        name = (await gateway.create("alice")).name
        reply = await ask(gateway, "alice", "POST", f"{CLUSTERS}/{name}/links", json={"seconds": 61})
        assert reply.status_code == status
        assert words in reply.json()["error"]["message"]


async def test_a_link_is_told_once_and_opens_the_dashboard_to_whoever_has_it(
    gateway: Gateway, cluster: Cluster
) -> None:
    """Without a login: on the dashboard's own host, with a ticket that ends with the link and is of the share epoch.
    No list shows the link again.
    """
    path = f"{CLUSTERS}/{cluster.name}/links"
    made = await ask(gateway, "alice", "POST", path, json={"seconds": 600, "label": "for the reviewers"})
    listed = await ask(gateway, "alice", "GET", path)
    body = await ask(gateway, "alice", "GET", f"{CLUSTERS}/{cluster.name}")
    url = urlsplit(made.json()["url"])

    assert made.status_code == 201
    assert made.json()["expires_at"] == gateway.clock.now + 600
    assert (url.netloc, url.path.split("/")[1]) == ("gateway.test", "shared")
    secret = url.path.rpartition("/")[2]
    assert [link["label"] for link in listed.json()["links"]] == ["for the reviewers"]
    assert secret not in listed.text + body.text

    opened = await ask(gateway, None, "GET", url.path)
    assert opened.status_code == 302
    target = urlsplit(opened.headers["location"])
    assert target.hostname == f"{cluster.name}.localhost"
    query = parse_qs(target.query)
    key = (await gateway.store.credentials(cluster.name)).ticket_key
    ticket = verify(query["ticket"][0], cluster.name, key, gateway.clock.now)
    assert ticket is not None
    assert ticket.once
    assert (ticket.epoch, ticket.until) == (0, gateway.clock.now + 600)
    assert opened.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("label", ["x" * 101, "a\nb", "\x1b[2Jgone", "nib\u202egro"])
async def test_a_label_is_a_line_that_others_can_read(gateway: Gateway, cluster: Cluster, label: str) -> None:
    """It stands in the cluster's events and lists, which are read in terminals too."""
    path = f"{CLUSTERS}/{cluster.name}/links"
    refused = await ask(gateway, "alice", "POST", path, json={"seconds": 60, "label": label})

    assert refused.status_code == 422
    assert refused.json()["error"]["field"] == "label"
    assert (await ask(gateway, "alice", "GET", path)).json() == {"links": []}


async def test_a_link_that_is_no_more_leads_nowhere_whatever_the_reason(gateway: Gateway, cluster: Cluster) -> None:
    """Withdrawn, expired, forged, of a cluster that has ended or never was: the same answer to the byte."""
    path = f"{CLUSTERS}/{cluster.name}/links"

    async def make() -> tuple[str, str]:
        body = (await ask(gateway, "alice", "POST", path, json={"seconds": 60})).json()
        return body["id"], urlsplit(body["url"]).path

    (withdrawn, first), (_, second) = await make(), await make()
    assert (await ask(gateway, None, "GET", first)).status_code == 302
    for _ in range(2):
        assert (await ask(gateway, "alice", "DELETE", f"{path}/{withdrawn}")).status_code == 204
    head, dot, signature = second.rpartition(".")
    forged = head + dot + ("A" if signature[0] != "A" else "B") + signature[1:]
    answers = [(await ask(gateway, None, "GET", where)) for where in (first, forged, "/shared/nonsense", "/shared/a.b")]
    assert (await ask(gateway, None, "GET", second)).status_code == 302
    gateway.clock.now += 60
    answers.append(await ask(gateway, None, "GET", second))
    _, third = await make()
    await gateway.become_failed(cluster.name)
    answers.append(await ask(gateway, None, "GET", third))

    assert {reply.status_code for reply in answers} == {404}
    assert len({reply.content for reply in answers}) == 1
    assert (await gateway.store.load(cluster.name)).share_epoch == 1


async def test_expired_links_are_not_listed_and_not_kept(gateway: Gateway, cluster: Cluster) -> None:
    """The list forgets them by the clock, the record with the next link."""
    path = f"{CLUSTERS}/{cluster.name}/links"
    await ask(gateway, "alice", "POST", path, json={"seconds": 60})
    gateway.clock.now += 61
    assert (await ask(gateway, "alice", "GET", path)).json() == {"links": []}
    await ask(gateway, "alice", "POST", path, json={"seconds": 60})
    assert len((await gateway.store.load(cluster.name)).links) == 1


async def test_an_administrator_sees_every_cluster_and_connects_to_none(tmp_path: Path) -> None:
    """They list all of them, or one user's; to connect they would have to act on behalf of the owner."""
    async with gateway_in_process(tmp_path, roster=Roster(admins=["mallory"])) as gateway:
        names = [(await gateway.create(user)).name for user in ("alice", "bob", "alice")]
        for name in names:
            await gateway.become_running(name)
            gateway.clock.now += 1

        async def listed(**query: str) -> list[str]:
            return names_of((await ask(gateway, "mallory", "GET", CLUSTERS, params=query)).json()["clusters"])

        assert sorted(await listed(of="all")) == sorted(names)
        assert sorted(await listed(owner="alice")) == sorted([names[0], names[2]])
        assert await listed() == await listed(of="shared") == []
        refused = await ask(gateway, "mallory", "GET", f"{CLUSTERS}/{names[0]}/credentials")
        assert refused.status_code == 403
        assert "on behalf of alice" in refused.json()["error"]["message"]
        rights = (await ask(gateway, "mallory", "GET", f"{CLUSTERS}/{names[0]}")).json()["rights"]
        assert rights == ["see", "scale", "stop", "logs", "dashboard", "share", "limit"]


async def test_somebody_elses_name_as_owner_shows_only_what_is_shared(gateway: Gateway, cluster: Cluster) -> None:
    """For who is no administrator ``owner`` only narrows what they see anyway."""
    hidden = await gateway.create("alice")
    assert (await ask(gateway, "mallory", "GET", f"{CLUSTERS}?owner=alice")).json()["clusters"] == []
    await share(gateway, cluster.name, "user:mallory")
    listed = (await ask(gateway, "mallory", "GET", f"{CLUSTERS}?owner=alice")).json()["clusters"]
    assert names_of(listed) == [cluster.name] != [hidden.name]
    assert (await ask(gateway, "mallory", "GET", f"{CLUSTERS}?owner=alice&of=mine")).json()["clusters"] == []


async def test_what_happens_to_shared_clusters_can_be_followed(gateway: Gateway, cluster: Cluster) -> None:
    """From the share on; with whom else it is shared is not told, and nothing of other clusters."""
    async with Reader(gateway, "/api/v2/events?of=shared", "mallory") as reader:
        messages = reader.messages()
        assert "retry" in await anext(messages)
        await share(gateway, cluster.name, "user:bob")
        await share(gateway, cluster.name, "user:mallory")
        await gateway.create("alice")
        await share(gateway, cluster.name, "user:eve")
        await gateway.services.clusters.scale(Principal("alice"), cluster.name, 3)
        told = [await anext(messages) for _ in range(2)]

    assert [message["event"] for message in told] == ["share-given", "cluster-scaled"]
    assert "mallory" in told[0]["data"]
