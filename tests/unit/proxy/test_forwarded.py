"""Who the client is, when proxies stand before the gateway."""

from __future__ import annotations

import pytest

from tidegate.proxy.forwarded import TrustedProxies


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.7", ["198.51.100.9"], "198.51.100.9"),
        ("10.0.0.7", ["1.2.3.4, 198.51.100.9"], "198.51.100.9"),
        ("10.0.0.7", ["1.2.3.4", "198.51.100.9"], "198.51.100.9"),
        ("10.0.0.7", ["198.51.100.9, 10.0.0.8"], "198.51.100.9"),
        ("10.0.0.7", ["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
        ("10.0.0.7", ["198.51.100.9, unknown"], "10.0.0.7"),
        ("10.0.0.7", [], "10.0.0.7"),
        ("10.0.0.7", [""], "10.0.0.7"),
        ("::ffff:10.0.0.7", ["198.51.100.9"], "198.51.100.9"),
        ("203.0.113.5", ["198.51.100.9"], "203.0.113.5"),
        ("2001:db8::1", ["2001:db9::5"], "2001:db9::5"),
    ],
)
def test_the_first_address_from_the_right_that_is_no_proxy(peer: str, forwarded: list[str], client: str):
    """What stands left of it is the client's own invention."""
    trusted = TrustedProxies(["10.0.0.0/24", "2001:db8::/64"])

    assert trusted.client(peer, forwarded) == client


def test_without_trusted_proxies_nobody_is_believed():
    """Not even this machine."""
    assert TrustedProxies().client("127.0.0.1", ["198.51.100.9"]) == "127.0.0.1"


def test_a_proxy_and_this_machine_are_no_single_person():
    """Limits for one client address do not fit them."""
    trusted = TrustedProxies(["10.0.0.0/24"])

    assert trusted.share_an_address("10.0.0.7")
    assert trusted.share_an_address("127.0.0.1")
    assert not trusted.share_an_address("203.0.113.5")
    assert not trusted.share_an_address("")
