"""The secrets of a cluster: what each leaf is good for, and that the strictest of clients and servers accept them."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from tests.unit.model.samples import FACTS, HOST, make_cluster
from tidegate.control.credentials import (
    EARLY,
    LIFETIME,
    LaunchFiles,
    client_pem,
    mint,
    mint_client,
    new_serial,
    revocation_lists,
    route_to,
)
from tidegate.store.base import Credentials

NAME = "0123456789abcdef"
NOW = 1_800_000_000.0
END = "-----END X509 CRL-----\n"


@pytest.fixture(scope="module")
def secrets() -> Credentials:
    """The secrets of one cluster."""
    return mint(NAME, NOW)


def read(pem: str) -> x509.Certificate:
    """Return a certificate."""
    return x509.load_pem_x509_certificate(pem.encode())


def test_each_role_has_a_leaf_of_its_own(secrets: Credentials):
    """Five keys of P-256, each once; every leaf is signed by the cluster's authority."""
    keys = [secrets.ca_key, secrets.client_key, secrets.scheduler_key, secrets.worker_key, secrets.clients_ca_key]
    assert len(set(keys)) == 5
    assert all("BEGIN PRIVATE KEY" in key for key in keys)
    for pem in (secrets.ca_cert, secrets.client_cert, secrets.scheduler_cert, secrets.worker_cert):
        certificate = read(pem)
        certificate.verify_directly_issued_by(read(secrets.ca_cert))
        assert isinstance(certificate.public_key().curve, ec.SECP256R1)


def test_validity_begins_early_and_lasts_as_long_as_asked(secrets: Credentials):
    """Ten minutes for clocks that differ; longer than any cluster runs, or what the administrator says."""
    assert read(secrets.client_cert).not_valid_after_utc.timestamp() > NOW + 9 * 365 * 86400
    for lifetime, minted in ((LIFETIME, secrets), (3600.0, mint(NAME, NOW, 3600.0))):
        for certificate in map(read, (minted.ca_cert, minted.client_cert, minted.scheduler_cert, minted.worker_cert)):
            assert certificate.not_valid_before_utc.timestamp() == NOW - EARLY
            assert certificate.not_valid_after_utc.timestamp() == NOW + lifetime


def test_a_client_cannot_pose_as_a_server(secrets: Credentials):
    """By the web's rules (RFC 5280): scheduler and worker are servers of this name and clients, a client only that."""
    builder = PolicyBuilder().store(Store([read(secrets.ca_cert)])).time(_at(NOW))
    server = builder.build_server_verifier(x509.DNSName(NAME))
    client = builder.build_client_verifier()
    for pem in (secrets.scheduler_cert, secrets.worker_cert):
        server.verify(read(pem), [])
        client.verify(read(pem), [])
    client.verify(read(secrets.client_cert), [])
    with pytest.raises(VerificationError):
        server.verify(read(secrets.client_cert), [])
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("another")).verify(read(secrets.scheduler_cert), [])


def test_another_clusters_leaf_opens_nothing(secrets: Credentials):
    """Each cluster trusts its own authority only."""
    other = mint(NAME, NOW)
    verifier = PolicyBuilder().store(Store([read(secrets.ca_cert)])).time(_at(NOW)).build_client_verifier()
    with pytest.raises(VerificationError):
        verifier.verify(read(other.client_cert), [])


def test_mutual_tls_as_strict_as_python_knows(tmp_path: Path):
    """The bundle of the official client (one file as certificate and as authorities) against a scheduler's leaf."""
    secrets = mint(NAME, time.time())
    bundle, key = tmp_path / "dask.crt", tmp_path / "dask.pem"
    bundle.write_text(client_pem(secrets))
    key.write_text(secrets.client_key)
    client = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=bundle)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(bundle, key)
    for part in ("ca_cert", "scheduler_cert", "scheduler_key"):
        (tmp_path / part).write_text(getattr(secrets, part))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca_cert")
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(tmp_path / "scheduler_cert", tmp_path / "scheduler_key")

    ours, theirs = socket.socketpair()

    def serve() -> None:
        with server.wrap_socket(theirs, server_side=True) as connection:
            connection.sendall(connection.recv(10))

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(ours, server_hostname=NAME) as connection:
        connection.sendall(b"hello")
        assert connection.recv(10) == b"hello"
    thread.join()


def test_tokens_cannot_be_guessed_and_are_no_paths(secrets: Credentials):
    """256 bits each, different, of characters that are safe in a header, a file and an environment."""
    other = mint(NAME, NOW)
    tokens = [s for c in (secrets, other) for s in (c.agent_token, c.dashboard_secret, c.ticket_key)]
    assert len(set(tokens)) == 6
    assert all(len(token) == 64 and token.isalnum() for token in tokens)


def test_nothing_secret_shows(secrets: Credentials):
    """Neither in the repr of the secrets nor in that of a route."""
    route = route_to(_running(), secrets)
    secrets = replace(secrets, variables={"KEY": "geheim"})
    parts = asdict(secrets)
    for secret in (*parts.pop("variables").values(), *parts.values()):
        assert secret not in repr(secrets)
        assert secret not in repr(route)


def test_a_route_leads_where_the_backend_says(secrets: Credentials):
    """The host from the backend, the ports from the agent; without both there is none."""
    route = route_to(_running(), secrets)
    assert (route.name, route.host, route.port, route.dashboard_port) == ("c1", HOST, 8786, 8787)
    assert (route.ca, route.dashboard_secret) == (secrets.ca_cert, secrets.dashboard_secret)
    assert route.ticket_key == secrets.ticket_key
    with pytest.raises(ValueError, match="has no scheduler to lead to"):
        route_to(make_cluster(), secrets)


def test_the_files_of_a_launch(secrets: Credentials):
    """Processes get their own leaves and no more: not the authority's key, the client's, or that of tickets."""
    files = LaunchFiles("https://dask.example.org/prefix/", lambda: "TRUST", 1000).build(make_cluster(), secrets)
    everything = b"".join(files.values()).decode()
    assert secrets.ca_key not in everything
    assert secrets.client_key not in everything
    assert secrets.ticket_key not in everything
    assert files["scheduler.key"].decode() == secrets.scheduler_key
    assert files["worker.pem"].decode() == secrets.worker_cert
    assert "variables.json" not in files
    agent = json.loads(files["agent.json"])
    assert agent["url"] == "https://dask.example.org/prefix/api/agent/v1/clusters/c1"
    assert (agent["ca"], agent["listener_uid"]) == ("TRUST", 1000)


def _running():
    return replace(make_cluster(), scheduler=FACTS, host=HOST)


def _at(seconds: float):
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc)


def test_a_grantees_leaf_is_a_clients_and_of_the_clients_authority(secrets: Credentials):
    """The servers' authority, which workers trust, does not know it; it poses as no server; it lasts as others do."""
    serial = new_serial()
    pair = mint_client(NAME, secrets, serial)
    leaf, bundled = x509.load_pem_x509_certificates(pair.certificate.encode())
    assert leaf.serial_number == serial
    assert bundled == read(secrets.ca_cert)
    assert leaf.not_valid_after_utc == read(secrets.client_cert).not_valid_after_utc
    clients = PolicyBuilder().store(Store([read(secrets.clients_ca_cert)])).time(_at(NOW))
    clients.build_client_verifier().verify(leaf, [])
    with pytest.raises(VerificationError):
        clients.build_server_verifier(x509.DNSName(NAME)).verify(leaf, [])
    with pytest.raises(VerificationError):
        PolicyBuilder().store(Store([bundled])).time(_at(NOW)).build_client_verifier().verify(leaf, [])
    assert len({pair.key, *(mint_client(NAME, secrets, new_serial()).key for _ in range(3))}) == 4


def test_revocation_lists_are_of_both_authorities(secrets: Credentials):
    """What is withdrawn stands on the clients'; the servers' is empty, but there; both are signed and current."""
    pem = revocation_lists(secrets, [5, 7], NOW)
    texts = [part + END for part in pem.split(END)[:-1]]
    clients, servers = (x509.load_pem_x509_crl(text.encode()) for text in texts)
    assert sorted(revoked.serial_number for revoked in clients) == [5, 7]
    assert len(servers) == 0
    for found, ca in ((clients, secrets.clients_ca_cert), (servers, secrets.ca_cert)):
        assert found.is_signature_valid(read(ca).public_key())
        assert found.last_update_utc < _at(NOW) < found.next_update_utc


def test_what_a_cluster_is_launched_with_holds_no_key_of_an_authority(secrets: Credentials):
    """The clients' authority goes to the agent alone, as a certificate; nothing by which it signs goes anywhere."""
    files = LaunchFiles("http://127.0.0.1:8000").build(make_cluster(), secrets)
    assert json.loads(files["agent.json"])["clients_ca"] == secrets.clients_ca_cert
    for name, content in files.items():
        assert secrets.clients_ca_key.encode() not in content
        assert secrets.ca_key.encode() not in content
        assert (secrets.clients_ca_cert.splitlines()[3].encode() in content) is (name == "agent.json")
