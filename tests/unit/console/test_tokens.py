"""The page of one's tokens."""

from __future__ import annotations

import re

from tests.in_process import DAY, Gateway
from tidegate.authn.tokens import SECRET_PREFIX, mint_token
from tidegate.model.principal import Principal, Scope


async def test_a_token_is_made_shown_once_and_revoked(gateway: Gateway) -> None:
    """By somebody who has no token at all, but a session."""
    browser = gateway.browser("carol")
    assert "You have no tokens" in (await browser.get("/tokens")).text

    made = await browser.post("/console/tokens", data={"label": "laptop <1>", "days": "7", "read-only": "on"})
    secret = re.search(f'id="secret">({SECRET_PREFIX}[^<]+)<', made.text)
    assert made.status_code == 200
    assert secret is not None
    assert "no-store" in made.headers["cache-control"]

    (token,) = await gateway.store.list_tokens("carol")
    assert token.scope is Scope.READ_ONLY
    assert token.expires_at == gateway.clock.now + 7 * DAY
    again = (await browser.get("/tokens")).text
    assert secret[1] not in again
    assert "laptop &lt;1&gt;" in again
    assert "expires in 7 days" in again
    assert "never used" in again

    gone = await browser.post(f"/console/tokens/{token.id}/revoke")
    assert (gone.status_code, gone.headers["location"]) == (303, "/tokens")
    assert await gateway.store.list_tokens("carol") == []


async def test_when_a_token_was_last_used_is_shown(gateway: Gateway) -> None:
    """In days, for no more is known."""
    token, _ = await mint_token(gateway.store, Principal("carol"), "old", now=gateway.clock.now)
    await gateway.store.note_use(token.id, gateway.clock.now)

    for days, words in ((0, "used today"), (1, "used yesterday"), (1, "used 2 days ago")):
        gateway.clock.now += days * DAY
        browser = gateway.browser("carol")
        assert words in (await browser.get("/tokens")).text


async def test_what_is_wrong_is_said_on_the_page(gateway: Gateway) -> None:
    """With the rule."""
    browser = gateway.browser("carol")

    wrong = {("x", "61"): "at most 60 days", ("x", "many"): "a whole number", ("x" * 101, "1"): "at most 100 printable"}
    for (label, days), words in wrong.items():
        answer = await browser.post("/console/tokens", data={"label": label, "days": days})
        assert answer.status_code == 422
        assert words in answer.text


async def test_what_has_expired_says_so(gateway: Gateway) -> None:
    """Until it makes room for another."""
    await mint_token(gateway.store, Principal("carol"), "old", now=0, expires_at=gateway.clock.now - 3600)

    assert "expired 1 h ago" in (await gateway.browser("carol").get("/tokens")).text


async def test_a_foreign_page_makes_no_token(gateway: Gateway) -> None:
    """A browser sends the session along; that is not enough."""
    browser = gateway.browser("carol", **{"Sec-Fetch-Site": "cross-site"})

    assert (await browser.post("/console/tokens", data={"label": "x"})).status_code in (303, 401)
    assert await gateway.store.list_tokens("carol") == []
