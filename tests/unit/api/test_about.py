"""What the gateway says about itself."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.in_process import Gateway, gateway_in_process
from tidegate.api.access import PROVED

URL = "/api/v2/openapi.json"


async def test_the_version_tells_where_schedulers_are(tmp_path: Path) -> None:
    """Behind a hub HTTP comes another way than TLS; the client asks here."""
    async with gateway_in_process(tmp_path, proxy_address="dask.example.org:8786") as gateway:
        told = (await gateway.client().get("/api/v2/version")).json()

    assert told == {"version": version("tidegate"), "proxy_address": "dask.example.org:8786"}


async def test_every_answer_bears_the_safe_headers(gateway: Gateway) -> None:
    """Successes, errors, pages: a browser takes them for what they say and keeps them nowhere."""
    for client, path in (
        (gateway.client("alice"), "/api/v2/options"),
        (gateway.client(), "/api/v1/options"),
        (gateway.client(), "/nonsense"),
        (gateway.browser("alice"), "/"),
    ):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"


async def test_the_description_covers_every_route_of_version_2(gateway: Gateway) -> None:
    """Each with a summary, its errors in our own form, and who may call it."""
    schema = (await gateway.client().get(URL)).json()
    described = {
        (method.upper(), path): operation
        for path, item in schema["paths"].items()
        for method, operation in item.items()
    }
    routes: dict[tuple[str, str], Any] = {
        (method, route.path_format): route  # type: ignore[attr-defined]
        for route in gateway.app.routes
        for method in route.methods  # type: ignore[attr-defined]
        if route.path.startswith("/api/v2/") and route.path != URL  # type: ignore[attr-defined]
    }

    assert set(described) == set(routes)
    for key, operation in described.items():
        assert operation["summary"]
        assert operation["description"]
        assert operation["responses"]["4XX"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorBody")
        assert "422" not in operation["responses"]
        assert bool(operation["security"]) is (routes[key].rule in PROVED), key
    gone = described["DELETE", "/api/v2/clusters/{name}"]["responses"]
    assert gone["202"]["content"]["application/json"]["schema"]["$ref"].endswith("/ClusterBody")
    assert "content" not in gone["204"]
    for path in ("/api/v2/events", "/api/v2/clusters/{name}/events"):
        assert set(described["GET", path]["responses"]["200"]["content"]) == {"text/event-stream"}
    health = described["GET", "/api/v2/health"]["responses"]
    assert all(health[s]["content"]["application/json"]["schema"]["$ref"].endswith("/Health") for s in ("200", "503"))
    assert set(schema["components"]["securitySchemes"]) == {"token", "basic", "session"}
    # Programs that are made from this send a cookie of that name: it must be one (RFC 6265, 4.1.1).
    assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", schema["components"]["securitySchemes"]["session"]["name"])
    assert schema["components"]["schemas"]["NewCluster"]["examples"]
    assert "HTTPValidationError" not in schema["components"]["schemas"]


@pytest.mark.parametrize(("prefix", "server"), [("", "/"), ("/services/dask", "/services/dask")])
async def test_the_description_names_its_server(gateway: Gateway, prefix: str, server: str) -> None:
    """Generated clients then call the right place, below a prefix too."""
    headers = {"X-Forwarded-Prefix": prefix} if prefix else {}
    schema = (await gateway.client(**headers).get(URL)).json()

    assert schema["servers"] == [{"url": server}]
