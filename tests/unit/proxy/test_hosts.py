"""Telling hosts apart: the gateway, one cluster's dashboard, and everything else."""

from __future__ import annotations

import pytest

from tidegate.proxy.hosts import DashboardHost, ForeignHost, HostRule, InvalidHost, MainHost, same_origin

LOCAL = HostRule(loopback=True, public_hosts=["Gateway.Example.org"], dashboard_hosts="{name}.localhost")
PUBLIC = HostRule(loopback=False, public_hosts=["dash.example.org"], dashboard_hosts="{name}.dash.example.org")
PATHS = HostRule(loopback=True, public_hosts=[], dashboard_hosts=None)


@pytest.mark.parametrize(
    "host",
    [
        *["localhost", "localhost:8000", "LOCALHOST:8000", "localhost.", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000"],
        *["gateway.example.org", "gateway.example.org.:443"],
    ],
)
def test_names_of_this_machine_are_the_gateway(host: str):
    """Loopback names, in every spelling, and the public names from the settings."""
    assert LOCAL.ask(host) == MainHost()


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.1:8000", "localhost.evil.example", "192.168.1.5", "[::2]"])
def test_a_gateway_on_loopback_answers_to_no_other_name(host: str):
    """A name of someone's own that points at 127.0.0.1 is not ours."""
    assert LOCAL.ask(host) == ForeignHost()
    assert PATHS.ask(host) == ForeignHost()


@pytest.mark.parametrize("host", ["anything.example", "10.0.0.1:8000", "gateway.ns.svc"])
def test_a_gateway_on_a_network_answers_to_every_name(host: str):
    """Services, pods and probes call it by names that nobody lists."""
    assert PUBLIC.ask(host) == MainHost()


def test_a_clusters_host_is_its_dashboard():
    """The label before the domain names the cluster, in lower case."""
    assert LOCAL.ask("0123456789abcdef.localhost:8000") == DashboardHost("0123456789abcdef")
    assert LOCAL.ask("ABC.LocalHost") == DashboardHost("abc")
    assert PUBLIC.ask("abc.dash.example.org") == DashboardHost("abc")
    assert PUBLIC.ask("dash.example.org") == MainHost()


@pytest.mark.parametrize("label", ["a.b", "-a", "a-", "a_b", "x" * 52])
def test_a_label_that_is_no_clusters_name_is_nobody(label: str):
    """Nothing below the dashboards' domain is ever the gateway."""
    assert LOCAL.ask(f"{label}.localhost") == ForeignHost()
    assert PUBLIC.ask(f"{label}.dash.example.org") == ForeignHost()


@pytest.mark.parametrize(
    "host", [None, "", "a b", "user@localhost", "localhost:port", "localhost:123456", "a/b", "[::1"]
)
def test_what_is_no_host_is_invalid(host: str | None):
    """A Host header that could be read in two ways is refused."""
    assert LOCAL.ask(host) == InvalidHost()


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://abc.localhost:8000", "abc.localhost:8000", True),
        ("http://ABC.localhost:8000", "abc.localhost:8000", True),
        ("https://abc.example.org", "abc.example.org", True),
        ("https://abc.example.org", "abc.example.org:443", True),
        ("http://abc.localhost:8001", "abc.localhost:8000", False),
        ("http://evil.localhost:8000", "abc.localhost:8000", False),
        ("http://localhost:8000", "abc.localhost:8000", False),
        ("null", "abc.localhost:8000", False),
        ("", "abc.localhost:8000", False),
        ("abc.localhost:8000", "abc.localhost:8000", False),
        ("file://abc.localhost:8000", "abc.localhost:8000", False),
    ],
)
def test_an_origin_is_a_host_and_a_port(origin: str, host: str, same: bool):
    """Another port, or a sibling's host, is another origin."""
    assert same_origin(origin, host) is same
