"""How the caller reached us, as the proxy tells it: needed for links, cookies and the test of where a page comes from;
and from where they did.

The application listens on a Unix socket that only the proxy connects to, so its ``X-Forwarded-*`` headers are the
truth; without them (tests, the operator's own calls) the request speaks for itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from tidegate.model.errors import Invalid

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True)
class Address:
    """The gateway's own address in the eyes of the caller.

    Parameters
    ----------
    scheme : str
        ``http`` or ``https``.
    host : str
        Host name, with the port where it is not the scheme's own.
    prefix : str
        Path below which the gateway is mounted; empty at the root.
    """

    scheme: str
    host: str
    prefix: str

    @property
    def origin(self) -> str:
        """What browsers send as ``Origin`` from our own pages."""
        return f"{self.scheme}://{self.host}".lower()

    @property
    def port(self) -> str:
        """The port with its colon as it stands in ``host``, or nothing."""
        return self.host[self.host.rindex(":") :] if re.search(r":[0-9]+$", self.host) else ""


def read_address(request: HTTPConnection) -> Address:
    """Work out the address at which the caller reached the gateway.

    Raises
    ------
    Invalid
        When a header cannot be part of an address: it would end up in links.
    """
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", request.scope["scheme"])
    host = headers.get("x-forwarded-host") or headers.get("host", "")
    prefix = headers.get("x-forwarded-prefix", "").rstrip("/")
    if scheme not in ("http", "https") or not _HOST.fullmatch(host) or not _PREFIX.fullmatch(prefix):
        raise Invalid("cannot serve this request: its host name or its prefix is malformed")
    return Address(scheme, host, prefix)


def address_of(request: HTTPConnection) -> Address:
    """Return the address at which the caller reached the gateway, as it was worked out when the request came in."""
    address: Address = request.state.address
    return address


def client_of(request: HTTPConnection) -> str:
    """Return the client's own address; empty where nobody knows it.

    The proxy has judged what stands before it (``trusted_proxies``), and says one address. When it asks something
    itself, it says whom for (``remember_client``).
    """
    said: str | None = getattr(request.state, "client", None)
    if said is not None:
        return said
    return request.headers.get("x-forwarded-for") or (request.client.host if request.client else "")


def remember_client(request: HTTPConnection, client: str) -> None:
    """Take it that the request is made for somebody at this address."""
    request.state.client = client
