"""What follows from the configuration for the proxies, the addresses and the backend."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tidegate.config.load import BadConfig, load
from tidegate.config.schema import Address, Settings
from tidegate.proxy.settings import Settings as ProxySettings
from tidegate.server.announce import going_on
from tidegate.server.backend import check_backend
from tidegate.server.proxies import dashboard_host, proxy_settings
from tidegate.server.urls import local_url, public_url


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({}, "{name}.localhost"),
        ({"address": "0.0.0.0:8000"}, None),
        ({"public_url": "https://dask.example.org"}, None),
        ({"public_url": "http://localhost:9000"}, "{name}.localhost"),
        ({"dashboards": {"mode": "path"}}, None),
        ({"dashboards": {"host": "{name}.dask.example.org"}, "address": "0.0.0.0:8000"}, "{name}.dask.example.org"),
        ({"dashboards": {"host": "{name}.dask.example.org", "mode": "path"}}, None),
    ],
)
def test_dashboards_get_hosts_of_their_own_where_viewers_can_reach_them(
    settings: dict[str, Any], pattern: str | None
) -> None:
    """``<name>.localhost`` is the viewer's own machine: good on loopback only."""
    assert dashboard_host(Settings.model_validate(settings)) == pattern


def test_a_proxy_understands_what_it_is_told() -> None:
    """The public name is one that it answers to."""
    settings = Settings(public_url="https://dask.example.org/services/x", prefix="/services/x", data=Path("/data"))

    told = ProxySettings.from_json(json.dumps(proxy_settings(settings)), (3,))

    assert told.public_hosts == ("dask.example.org",)
    assert told.prefix == "/services/x"
    assert str(told.log_file) == "/data/logs/proxy.log"


def test_the_mark_changes_with_the_settings_and_with_nothing_else() -> None:
    """A living proxy is kept exactly when a new one would do the same."""
    mark = proxy_settings(Settings(data=Path("/data")))["mark"]

    assert proxy_settings(Settings(data=Path("/data"), history_days=3))["mark"] == mark
    assert proxy_settings(Settings(data=Path("/data"), prefix="/x"))["mark"] != mark


def test_a_renewed_certificate_leaves_the_mark_alone(tmp_path: Path) -> None:
    """The proxies use it by themselves."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text("old")
    key.write_text("key")
    settings = Settings.model_validate({"tls": {"cert": str(cert), "key": str(key)}})
    mark = proxy_settings(settings)["mark"]

    cert.write_text("new")

    assert proxy_settings(settings)["mark"] == mark


def test_limits_for_all_are_shared_out_among_the_proxies() -> None:
    """What is set holds for the gateway, however many processes it has."""
    proxy = {"workers": 3, "connections": 100, "connections_per_address": 9, "page_burst": 5, "pages_per_second": 6}
    settings = Settings.model_validate({"proxy": proxy, "trusted_proxies": ["10.0.0.7", "10.1.2.3/16"]})

    told = ProxySettings.from_json(json.dumps(proxy_settings(settings)), (3,))

    assert told.limits.connections == 34
    assert told.limits.connections_per_address == 3
    assert (told.limits.page_burst, told.limits.pages_per_second) == (5, 2), "one browser may come to one process"
    assert told.trusted_proxies == ("10.0.0.7/32", "10.1.0.0/16")


def test_what_is_no_network_is_refused() -> None:
    """A name could be anybody's tomorrow."""
    with pytest.raises(ValueError, match="write an address or a network"):
        Settings.model_validate({"trusted_proxies": ["hub.example.org"]})


def test_there_is_a_proxy_for_each_core() -> None:
    """Unless it is said how many."""
    assert Settings().proxy.processes == len(os.sched_getaffinity(0))
    assert Settings.model_validate({"proxy": {"workers": 5}}).proxy.processes == 5


def test_urls_can_be_dialled() -> None:
    """What listens everywhere is reached on loopback from here; users write the public address."""
    settings = Settings(address="0.0.0.0:0", prefix="/x", public_url="https://dask.example.org/x")

    assert local_url(settings, Address("0.0.0.0", 8000)) == "http://127.0.0.1:8000/x"
    assert local_url(settings, Address("::", 8000)) == "http://[::1]:8000/x"
    assert public_url(settings, Address("0.0.0.0", 8000)) == "https://dask.example.org/x"


def test_what_goes_on_is_named_with_the_ways_to_end_it() -> None:
    """By name and owner, with both ways."""
    text = going_on([{"name": "ab12", "owner": "alice", "workers": 2}], 5)

    for words in ("1 cluster goes on", "ab12", "alice", "2 workers", "within 5 s", "tidegate clusters stop NAME"):
        assert words in text


def test_settings_of_the_backend_are_checked_with_their_lines(tmp_path: Path) -> None:
    """As if they were our own."""
    path = tmp_path / "tidegate.yaml"
    path.write_text("backend:\n  name: local\n  core_oversubscription: -1\n  scrach: /tmp\n")

    with pytest.raises(BadConfig) as caught:
        check_backend(load(path))

    assert caught.value.problems == [
        "tidegate.yaml:3: cannot set backend.core_oversubscription to -1: it must be greater than 0",
        "tidegate.yaml:4: backend.scrach is not a setting; did you mean scratch?",
    ]
