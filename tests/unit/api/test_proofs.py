"""Callers who demand a proof of ours: it goes with every answer, and the challenge is made for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.hub_double import hub_double
from tests.in_process import Gateway, gateway_in_process
from tidegate.authn.base import Accepted, NotAdmitted, Presented
from tidegate.authn.jupyterhub import JupyterHubAuthenticator, JupyterHubSettings
from tidegate.model.principal import Principal

PROOF = "Negotiate cHJvb2Y="


class Tickets:
    """Knows alice by the ticket ``alice``, and mallory, who is known but may not come."""

    scheme = "Negotiate"

    async def start(self) -> None:
        """Nothing is to be made ready."""

    async def close(self) -> None:
        """Nothing is held."""

    async def authenticate(self, presented: Presented) -> Accepted | None:
        """Return alice, or None."""
        if presented == Presented("negotiate", "mallory"):
            raise NotAdmitted("mallory may not come", reply=PROOF)
        return Accepted(Principal("alice"), PROOF) if presented == Presented("negotiate", "alice") else None


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that takes tickets."""
    async with gateway_in_process(tmp_path, {"kerberos": Tickets()}) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/clusters/", 200),
        ("GET", "/api/v1/clusters/none", 404),
        ("POST", "/api/v1/clusters/none/scale", 422),
        ("GET", "/api/v2/whoami", 200),
        ("GET", "/api/v2/clusters/none", 404),
        # Open to all, but the client that demands a proof demands it of these too.
        ("GET", "/api/v2/version", 200),
        ("GET", "/api/version", 200),
    ],
)
async def test_the_proof_goes_with_every_answer(gateway: Gateway, method: str, path: str, status: int) -> None:
    """Good or bad: the official client shows nothing of an answer without it."""
    reply = await gateway.client(Authorization="Negotiate alice").request(method, path)

    assert reply.status_code == status
    assert reply.headers["WWW-Authenticate"] == PROOF


@pytest.mark.parametrize(("path", "status"), [("/api/v1/clusters/", 409), ("/api/v2/whoami", 403)])
async def test_somebody_who_may_not_come_gets_it_with_the_words(gateway: Gateway, path: str, status: int) -> None:
    """In v1 under a status whose words the official client shows."""
    reply = await gateway.client(Authorization="Negotiate mallory").get(path)

    assert reply.status_code == status
    assert "mallory may not come" in reply.text
    assert reply.headers["WWW-Authenticate"] == PROOF


async def test_a_wrong_ticket_gets_the_challenge_alone(gateway: Gateway) -> None:
    """Negotiate bears no parameters (RFC 4559): a client takes what follows for a message of Kerberos'."""
    wrong = await gateway.client(Authorization="Negotiate nobody").get("/api/v2/whoami")
    public = await gateway.client(Authorization="Negotiate nobody").get("/api/v2/version")

    assert wrong.status_code == 401
    assert wrong.headers["WWW-Authenticate"] == 'Basic realm="tidegate", Negotiate'
    assert public.status_code == 200
    assert "WWW-Authenticate" not in public.headers


async def test_a_hub_that_is_silent_or_says_no_is_told_in_both_protocols(tmp_path: Path) -> None:
    """v1 moves both to statuses whose words the official client shows; nobody is told 401, which means wrong."""
    async with hub_double() as hub:
        hub.add("t", "alice", "self")
        login = JupyterHubAuthenticator(
            tmp_path, JupyterHubSettings(api_url=hub.api_url, service_name="dask-gateway", timeout=1)
        )
        await login.start()
        async with gateway_in_process(tmp_path, {"jupyterhub": login}) as gateway:
            client = gateway.client(Authorization="jupyterhub t")
            unfit = [await client.get(path) for path in ("/api/v1/clusters/", "/api/v2/clusters")]
            hub.users.clear()
            wrong = [await client.get(path) for path in ("/api/v1/clusters/", "/api/v2/clusters")]
            await login.close()
            silent = [await client.get(path) for path in ("/api/v1/clusters/", "/api/v2/clusters")]

    assert [reply.status_code for reply in unfit] == [409, 403]
    assert all("c.JupyterHub.load_roles = [" in reply.text for reply in unfit)
    assert [reply.status_code for reply in wrong] == [401, 401]
    assert wrong[0].headers["WWW-Authenticate"] == 'Basic realm="tidegate", jupyterhub realm="tidegate"'
    assert [reply.status_code for reply in silent] == [500, 503]
    assert all(reply.headers["Retry-After"] == "2" for reply in silent)
