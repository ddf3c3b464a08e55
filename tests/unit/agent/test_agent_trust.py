"""Whom the agent tells its token over TLS: the gateway whose certificate or authority it was handed, nobody else."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.unit.agent.conftest import GIVEN
from tidegate.model.report import Wanted
from tidegate.wire.agent import WantedBody

Serve = Callable[["Made"], Awaitable[str]]


@dataclass
class Made:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


def make(name: str, *, is_ca: bool, issuer: Made | None = None, address: str | None = None) -> Made:
    """Make a certificate for the DNS name and perhaps an address, signed by ``issuer`` or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    if address is not None:
        names.append(x509.IPAddress(ipaddress.ip_address(address)))
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=10))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return Made(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Return a function that serves an empty wanted state over TLS with a certificate, and returns the address."""
    async with AsyncExitStack() as stack:

        async def start(server: Made) -> str:
            return await stack.enter_async_context(serving(server, tmp_path))

        yield start


@asynccontextmanager
async def serving(server: Made, folder: Path) -> AsyncIterator[str]:
    path = folder / "server.pem"
    key = server.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(server.pem.encode() + key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(WantedBody.from_model(Wanted(exit=False)).model_dump())

    app = web.Application()
    app.add_routes([web.post("/report", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def tell(agent: ModuleType, url: str, ca: str | None) -> None:
    gateway = agent.Gateway(agent.Settings(**GIVEN | {"url": url, "ca": ca}))
    try:
        await gateway.report({})
    finally:
        gateway.close()


async def test_a_pinned_certificate_needs_no_name(agent: ModuleType, serve: Serve) -> None:
    """The gateway's own certificate, for its public name, is trusted although its address is the loopback one."""
    leaf = make("gateway.example", is_ca=False, issuer=make("authority", is_ca=True))
    url = await serve(leaf)

    await tell(agent, url, leaf.pem)


async def test_beside_a_pinned_certificate_its_authority_is_not_trusted(agent: ModuleType, serve: Serve) -> None:
    """A file with the chain pins the first: whoever else the authority certified is a stranger."""
    authority = make("authority", is_ca=True)
    ours = make("gateway.example", is_ca=False, issuer=authority)
    url = await serve(make("gateway.example", is_ca=False, issuer=authority))

    with pytest.raises(agent.Away, match="CERTIFICATE_VERIFY_FAILED"):
        await tell(agent, url, ours.pem + authority.pem)


async def test_a_certificate_that_signed_itself_is_trusted(agent: ModuleType, serve: Serve) -> None:
    """As ``openssl req -x509`` makes them: for a name, and marked as an authority."""
    own = make("gateway.example", is_ca=True)
    url = await serve(own)

    await tell(agent, url, own.pem)


async def test_an_authority_vouches_for_the_gateway(agent: ModuleType, serve: Serve) -> None:
    """A private authority, and a gateway with a certificate of it."""
    authority = make("authority", is_ca=True)
    url = await serve(make("gateway.example", is_ca=False, issuer=authority, address="127.0.0.1"))

    await tell(agent, url, authority.pem)


async def test_beyond_loopback_the_name_must_fit(agent: ModuleType) -> None:
    """On a network, any certificate of the authority would otherwise do."""
    authority = make("authority", is_ca=True)
    leaf = make("gateway.example", is_ca=False, issuer=authority)

    assert agent.trust_only(authority.pem, "gateway.example").check_hostname
    assert not agent.trust_only(authority.pem, "127.0.0.1").check_hostname
    assert not agent.trust_only(leaf.pem, "gateway.example").check_hostname


@pytest.mark.parametrize("ca", [None, "other"])
async def test_a_stranger_is_told_nothing(agent: ModuleType, serve: Serve, ca: str | None) -> None:
    """A certificate that neither the system nor what was handed over vouches for ends the conversation."""
    url = await serve(make("gateway.example", is_ca=False, address="127.0.0.1"))

    with pytest.raises(agent.Away, match="CERTIFICATE_VERIFY_FAILED"):
        await tell(agent, url, make("other", is_ca=True).pem if ca else None)


def test_what_is_no_certificate_is_an_error(agent: ModuleType) -> None:
    """Rather than trust in whatever the system trusts."""
    with pytest.raises((ssl.SSLError, ValueError)):
        agent.trust_only("no certificate", "127.0.0.1")
