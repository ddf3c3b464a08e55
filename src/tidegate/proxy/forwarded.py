"""Who the client is when another proxy stands before this one.

``X-Forwarded-For`` is what anybody may write. What a proxy that we trust has added at its right end is true, and so is
what stands left of that when it is the address of another one that we trust; the first address from the right that is
none of ours is the client, and everything left of it is the client's own invention.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from tidegate.proxy.settings import is_loopback


class TrustedProxies:
    """The proxies whose word counts.

    Parameters
    ----------
    networks : iterable of str
        Addresses (``10.0.0.7``) and networks (``10.0.0.0/24``).

    Examples
    --------
    >>> trusted = TrustedProxies(["10.0.0.0/24"])
    >>> trusted.client("10.0.0.7", ["1.2.3.4, 198.51.100.9"])
    '198.51.100.9'
    >>> trusted.client("203.0.113.5", ["1.2.3.4"])
    '203.0.113.5'
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def contain(self, address: str) -> bool:
        """Whether this is the address of one of them."""
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in network for network in self._networks)

    def share_an_address(self, address: str) -> bool:
        """Whether many people may come from this address: from another proxy, or from this machine."""
        return is_loopback(address) or self.contain(address)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the client's address: ``peer`` is who is connected, ``forwarded`` are the headers."""
        client = peer
        steps = [step.strip() for value in forwarded for step in value.split(",")]
        while steps and self.contain(client):
            step = steps.pop()
            try:
                client = str(ipaddress.ip_address(step))
            except ValueError:  # a proxy that we trust does not write that: it is the client's
                break
        return client
