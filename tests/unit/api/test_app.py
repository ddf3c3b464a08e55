"""The one place that turns an error into an answer, in the form of the protocol that was spoken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.in_process import Gateway
from tidegate.api.app import create_app
from tidegate.authn.base import Presented
from tidegate.console.routes import Console
from tidegate.model.errors import (
    BackendFailed,
    Busy,
    Conflict,
    DiskFull,
    Invalid,
    LimitReached,
    NotAllowed,
    NotVisible,
    TidegateError,
)
from tidegate.model.principal import Principal


class Raising:
    """Raises on purpose, at the earliest point of a request."""

    scheme = "Basic"

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def authenticate(self, presented: Presented) -> Principal | None:
        """Raise."""
        raise self.error


def raising(gateway: Gateway, error: Exception, *, console: bool = True) -> Gateway:
    """Return a gateway in which every request with a credential raises."""
    services = replace(gateway.services, logins={"raising": Raising(error)})
    return replace(gateway, app=create_app(services, Console() if console else None))


ERRORS = [
    (NotVisible("words"), 404, 404, "not-found"),
    (NotAllowed("words"), 409, 403, "not-allowed"),
    (Conflict("words"), 409, 409, "conflict"),
    (LimitReached("words"), 409, 409, "limit-reached"),
    (Invalid("words", field="x"), 422, 422, "invalid"),
    (BackendFailed("words", detail="secret detail"), 500, 502, "backend-failed"),
    (DiskFull("words", detail="secret detail"), 500, 507, "disk-full"),
    (Busy("words", retry_after=7), 500, 503, "busy"),
]


@pytest.mark.parametrize(("error", "v1", "v2", "code"), ERRORS, ids=[type(row[0]).__name__ for row in ERRORS])
async def test_each_error_has_its_status_and_keeps_its_words(
    gateway: Gateway, error: TidegateError, v1: int, v2: int, code: str
) -> None:
    """In version 1 under a status whose words the official client shows; the operator's detail never leaves."""
    client = raising(gateway, error).client("alice")

    old, new = await client.get("/api/v1/options"), await client.get("/api/v2/options")
    page = await client.get("/", headers={"Accept": "text/html"})

    assert (old.status_code, old.json()) == (v1, {"error": "words"})
    assert new.status_code == page.status_code == v2
    assert new.json()["error"] == {
        "code": code,
        "message": "words",
        "field": getattr(error, "field", None),
        "incident": None,
    }
    assert "words" in page.text.lower()
    assert all("secret" not in reply.text for reply in (old, new, page))


async def test_busy_says_when_to_come_back(gateway: Gateway) -> None:
    """In whole seconds, at least one."""
    for seconds, told in ((7.0, "7"), (0.1, "1")):
        client = raising(gateway, Busy("words", retry_after=seconds)).client("alice")
        assert (await client.get("/api/v2/options")).headers["retry-after"] == told


async def test_without_a_console_there_is_the_api(gateway: Gateway) -> None:
    """The console is handed to the application, which works without."""
    bare = replace(gateway, app=create_app(gateway.services))

    assert (await bare.client("alice").get("/api/v2/whoami")).status_code == 200
    assert (await bare.browser("alice").get("/")).json() == {"error": "There is nothing at this address"}


async def test_two_applications_share_nothing(gateway: Gateway) -> None:
    """Services are handed over, not global: a second application does not change the first."""
    raising(gateway, KeyError("x"))

    assert (await gateway.client("alice").get("/api/v2/whoami")).status_code == 200
