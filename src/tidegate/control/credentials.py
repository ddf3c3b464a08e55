"""The secrets of a cluster: its own certificate authorities, a leaf for each role, and three secret words.

Each cluster trusts its own authorities only, so the certificates of one open nothing of another. Client, scheduler and
workers have leaves of their own: what a client holds cannot pose as the scheduler, because it is not good for servers.

Those who use the cluster by a share have a leaf each, signed by a second authority, which only the scheduler trusts,
and only of who connects to it: such a leaf opens no port of a worker. What was withdrawn stands in a revocation list;
there is one of both authorities, because OpenSSL, once it looks into lists, demands one of every issuer.
The keys are P-256: minting all of them takes a few milliseconds, where one RSA key takes fifty.

The extensions are those that Python 3.13 demands by default (``ssl.VERIFY_X509_STRICT``, RFC 5280): basic constraints,
key usage, and the key identifiers of subject and issuer.
"""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import resources

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tidegate.model.cluster import Cluster
from tidegate.store.base import ClientPair, Credentials
from tidegate.wire.names import AGENT_PATH
from tidegate.wire.proxy import Route

LIFETIME = 3650 * 86400.0
"""Seconds for which the certificates of a cluster are good, unless the administrator says otherwise: ten years. The
official client reads its certificate once, and workers have no agent that could bring them another: so a leaf has to
outlast its cluster, however long that runs. Nothing is gained by less, since nobody trusts its authority once the
cluster has ended."""
EARLY = 86400.0
"""Seconds by which validity begins before now: the clocks of nodes are not all right to the minute, and one that is set
right may have been wrong by hours. Nothing is gained by less: nobody had the key before."""
TOKEN_BYTES = 32
"""256 bits: out of reach of guessing, at any rate of requests. As hexadecimal it has no ``/``, which the peer's
preload would take for a path."""

_USES = {
    "client": (ExtendedKeyUsageOID.CLIENT_AUTH,),
    # Schedulers and workers are servers and connect to each other: both need both.
    "scheduler": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    "worker": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
}


def mint(name: str, now: float, lifetime: float = LIFETIME) -> Credentials:
    """Make the secrets of a new cluster. It computes for some milliseconds: call it in a thread.

    Parameters
    ----------
    name : str
        The cluster's name, which servers' leaves carry as their DNS name.
    now : float
        The time, in seconds since the epoch.
    lifetime : float
        For how many seconds the certificates are good.
    """
    span = (_time(now - EARLY), _time(now + lifetime))
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _authority(name, ca_key, span)
    leaves = {role: _leaf(name, role, ca, ca_key, span) for role in _USES}
    clients_ca_key = ec.generate_private_key(ec.SECP256R1())
    clients_ca = _authority(f"{name} clients", clients_ca_key, span)
    return Credentials(
        ca_cert=_pem(ca),
        ca_key=_key_pem(ca_key),
        client_cert=leaves["client"][0],
        client_key=leaves["client"][1],
        scheduler_cert=leaves["scheduler"][0],
        scheduler_key=leaves["scheduler"][1],
        worker_cert=leaves["worker"][0],
        worker_key=leaves["worker"][1],
        agent_token=secrets.token_hex(TOKEN_BYTES),
        dashboard_secret=secrets.token_hex(TOKEN_BYTES),
        ticket_key=secrets.token_hex(TOKEN_BYTES),
        clients_ca_cert=_pem(clients_ca),
        clients_ca_key=_key_pem(clients_ca_key),
    )


def mint_client(name: str, credentials: Credentials, serial: int) -> ClientPair:
    """Make what one more client of a cluster connects with; it is good for as long as their authority.

    Parameters
    ----------
    name : str
        The cluster's name.
    credentials : Credentials
    serial : int
        From ``new_serial``.
    """
    ca = x509.load_pem_x509_certificate(credentials.clients_ca_cert.encode())
    span = (ca.not_valid_before_utc, ca.not_valid_after_utc)
    certificate, key = _leaf(name, "client", ca, _load_key(credentials.clients_ca_key), span, serial)
    return ClientPair(certificate + credentials.ca_cert, key)


def new_serial() -> int:
    """Return a serial number that no other leaf has."""
    return x509.random_serial_number()


def revocation_lists(credentials: Credentials, serials: Iterable[int], now: float) -> str:
    """Return, as PEM, what a scheduler has to know in order to refuse the clients' leaves with these serial numbers."""
    clients = _revocations(credentials.clients_ca_cert, credentials.clients_ca_key, serials, now)
    return clients + _revocations(credentials.ca_cert, credentials.ca_key, (), now)


def _revocations(ca_pem: str, key_pem: str, serials: Iterable[int], now: float) -> str:
    ca = x509.load_pem_x509_certificate(ca_pem.encode())
    issued = _time(now - EARLY)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(issued)
        # It is replaced when there is news; a scheduler that hears of none for long must not refuse everybody.
        .next_update(ca.not_valid_after_utc)
    )
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(issued).build()
        builder = builder.add_revoked_certificate(revoked)
    authority = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority)
    signed = builder.add_extension(identifier, critical=False).sign(_load_key(key_pem), hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


def _load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the key of an authority is of another kind than those that are made here")
    return key


def client_pem(credentials: Credentials) -> str:
    """Return what the official client loads as its certificate *and* as its bundle of authorities."""
    return credentials.client_cert + credentials.ca_cert


def route_to(cluster: Cluster, credentials: Credentials) -> Route:
    """Return the way to a cluster whose scheduler has reported: the host from the backend, the ports from its agent."""
    if cluster.scheduler is None or not cluster.host:
        raise ValueError(f"cluster {cluster.name} has no scheduler to lead to")
    return Route(
        name=cluster.name,
        host=cluster.host,
        port=cluster.scheduler.port,
        dashboard_port=cluster.scheduler.dashboard_port,
        dashboard_secret=credentials.dashboard_secret,
        ca=credentials.ca_cert,
        ticket_key=credentials.ticket_key,
        share_epoch=cluster.share_epoch,
    )


class LaunchFiles:
    """Makes the files that lie beside a cluster's processes.

    Parameters
    ----------
    gateway : str
        The address under which agents reach the gateway, prefix included, without a slash at the end.
    trust : callable
        Returns PEM of the authorities to trust for it, if it is https with a certificate that the world does not know;
        asked each time, since certificates are renewed.
    listener_uid : int or None
        The OS user as whom it listens, if it is http on the agents' own machine: they send a token to nobody else.
    """

    def __init__(
        self, gateway: str, trust: Callable[[], str | None] = lambda: None, listener_uid: int | None = None
    ) -> None:
        self._gateway = gateway.rstrip("/")
        self._trust = trust
        self._listener_uid = listener_uid

    def build(self, cluster: Cluster, credentials: Credentials) -> Mapping[str, bytes]:
        """Return the content of each file, by name."""
        agent = {
            "cluster": cluster.name,
            "attempt": cluster.attempt,
            "url": self._gateway + AGENT_PATH.format(name=cluster.name),
            "token": credentials.agent_token,
            "dashboard_secret": credentials.dashboard_secret,
            "ca": self._trust(),
            "listener_uid": self._listener_uid,
            "clients_ca": credentials.clients_ca_cert or None,
        }
        texts = {
            "ca.pem": credentials.ca_cert,
            "scheduler.pem": credentials.scheduler_cert,
            "scheduler.key": credentials.scheduler_key,
            "worker.pem": credentials.worker_cert,
            "worker.key": credentials.worker_key,
            "agent.json": json.dumps(agent),
        }
        if credentials.variables:
            texts["variables.json"] = json.dumps(dict(credentials.variables))
        return {name: text.encode() for name, text in texts.items()} | _agent_sources()


@cache
def _agent_sources() -> dict[str, bytes]:
    folder = resources.files("tidegate.agent")
    return {name: (folder / name).read_bytes() for name in ("tidegate_agent.py", "tidegate_worker.py")}


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), tz=datetime.timezone.utc)


Span = tuple[datetime.datetime, datetime.datetime]


def _authority(name: str, key: ec.EllipticCurvePrivateKey, span: Span) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"tidegate cluster {name}"[:64])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        _builder(subject, subject, key.public_key(), span)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    name: str,
    role: str,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    span: Span,
    serial: int | None = None,
) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])
    authority = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(subject, ca.subject, key.public_key(), span, serial)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_USES[role]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return _pem(certificate), _key_pem(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, span: Span, serial: int | None = None
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(new_serial() if serial is None else serial)
        .not_valid_before(span[0])
        .not_valid_after(span[1])
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
