"""The page of the audit log."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.in_process import NOW, Gateway, gateway_in_process
from tidegate.authn.roster import Roster
from tidegate.console.audit import SHOWN
from tidegate.model.audit import Deed, Entry, Outcome
from tidegate.model.principal import Principal

STOP = Entry(
    NOW,
    Deed.CLUSTER_STOP,
    Outcome.DONE,
    principal="bob",
    actor="root",
    method="session",
    cluster="c1",
    address="192.0.2.7",
)
REFUSED = Entry(NOW, Deed.LOGIN, Outcome.REFUSED, "unauthenticated", principal="<b>eve</b>", times=3)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with an administrator and two entries."""
    async with gateway_in_process(tmp_path, roster=Roster(admins=["root"])) as gateway:
        await gateway.store.add_audit([STOP, REFUSED])
        yield gateway


def rows(page: str) -> list[str]:
    """Return the rows of the table as text."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    texts = [re.sub(r"<[^>]+>", " ", row) for row in body.split("</tr>")]
    return [" ".join(text.split()) for text in texts if text.strip()]


async def test_an_administrator_sees_who_did_what(gateway: Gateway) -> None:
    """Both persons, and that a name was not proved; what somebody typed stays text."""
    page = await gateway.browser("root").get("/audit")

    assert page.status_code == 200
    first, second = rows(page.text)
    assert first.split(" ", 2)[2].startswith("&lt;b&gt;eve&lt;/b&gt; (not proved) login × 3")
    assert "refused: unauthenticated" in first
    assert "root, on behalf of bob cluster.stop c1" in second
    assert second.endswith("done 192.0.2.7")


@pytest.mark.parametrize(
    ("query", "count"), [("user=bob", 1), ("cluster=c1", 1), ("action=login", 1), ("outcome=done&action=login", 0)]
)
async def test_the_form_chooses(gateway: Gateway, query: str, count: int) -> None:
    """And shows what it has chosen."""
    page = (await gateway.browser("root").get(f"/audit?{query}")).text

    assert len(rows(page)) == count
    assert ("nothing on record that fits" in page) == (count == 0)
    for chosen in query.split("&"):
        value = chosen.partition("=")[2]
        assert f'value="{value}"' in page or f"<option selected>{value}</option>" in page


async def test_older_entries_are_a_page_away(gateway: Gateway) -> None:
    """With the same filter."""
    await gateway.store.add_audit([replace(STOP, detail=str(n)) for n in range(SHOWN)])
    browser = gateway.browser("root")

    page = (await browser.get("/audit?user=bob")).text
    assert len(rows(page)) == SHOWN
    (link,) = re.findall(r'href="(/audit\?[^"]+)"', page)
    older = (await browser.get(link.replace("&amp;", "&"))).text
    assert len(rows(older)) == 1
    assert ">Older<" not in older


async def test_a_word_that_does_not_exist_is_told(gateway: Gateway) -> None:
    """An address that somebody has typed by hand."""
    assert (await gateway.browser("root").get("/audit?action=tea")).status_code == 422


async def test_to_others_it_is_not_there(gateway: Gateway) -> None:
    """Neither the page, which is the same bytes as any that never was, nor the way to it."""
    browser = gateway.browser("alice")
    nothing, page = await browser.get("/nothing"), await browser.get("/audit")

    assert (page.status_code, page.content) == (404, nothing.content)
    assert "/audit" not in (await browser.get("/")).text
    assert 'href="/audit"' in (await gateway.browser("root").get("/")).text


async def test_a_session_of_an_administrator_who_is_none_any_more(tmp_path: Path) -> None:
    """The role is judged at each request."""
    async with gateway_in_process(tmp_path) as gateway:
        sessions = gateway.services.sessions
        browser = gateway.browser()
        browser.cookies.set(sessions.cookie_name("http", ""), sessions.seal(Principal("root")))

        assert (await browser.get("/audit")).status_code == 404
