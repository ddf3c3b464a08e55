"""What is refused before anything starts, and the sentence that says how to go on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.config.schema import Address, Settings
from tidegate.model.errors import TidegateError
from tidegate.server import preflight
from tidegate.server.listener import bind, bound_address, find_living
from tidegate.server.preflight import CannotServe


def certificate(folder: Path) -> dict[str, str]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run(command, check=True, capture_output=True)
    return {"cert": str(cert), "key": str(key)}


@pytest.mark.parametrize("address", ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:8000"])
def test_beyond_loopback_without_tls_is_refused(address: str) -> None:
    """The sentence names both ways out: a certificate, or loopback."""
    with pytest.raises(CannotServe, match=r"tls: \{cert: FILE, key: FILE\}.*--address 127.0.0.1:8000"):
        preflight.check_address(Settings(address=address))


def test_beyond_loopback_with_tls_is_allowed(tmp_path: Path) -> None:
    """With a certificate the door may be open."""
    preflight.check_address(Settings.model_validate({"address": "0.0.0.0:8000", "tls": certificate(tmp_path)}))


def test_dashboards_on_localhost_names_are_refused_beyond_loopback(tmp_path: Path) -> None:
    """They would lead each viewer to their own machine."""
    settings = {"address": "0.0.0.0:8000", "tls": certificate(tmp_path), "dashboards": {"mode": "host"}}

    with pytest.raises(CannotServe, match=r"set dashboards\.mode to path"):
        preflight.check_address(Settings.model_validate(settings))


def test_a_certificate_without_its_own_key_is_refused(tmp_path: Path) -> None:
    """At the start, not at the first connection."""
    (tmp_path / "other").mkdir()
    mixed = certificate(tmp_path) | {"key": certificate(tmp_path / "other")["key"]}

    with pytest.raises(CannotServe, match="cannot use the certificate"):
        preflight.check_certificate(Settings.model_validate({"tls": mixed}))


def test_the_data_folder_is_made_for_nobody_else_to_read(tmp_path: Path) -> None:
    """It will hold the key that seals every secret."""
    preflight.prepare_data(tmp_path / "deep" / "data")

    assert (tmp_path / "deep" / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "deep" / "data" / "run").stat().st_mode & 0o777 == 0o700


def test_a_data_folder_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    """With the command that mends it."""
    tmp_path.chmod(0o755)

    with pytest.raises(TidegateError, match="chmod 700"):
        preflight.prepare_data(tmp_path)


def test_a_second_gateway_on_the_same_data_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    """The lock ends with its process, however that ended."""
    held = preflight.lock(tmp_path / "serve.lock", "there is one already")

    with pytest.raises(CannotServe, match="there is one already"):
        preflight.lock(tmp_path / "serve.lock", "there is one already")

    os.close(held)
    os.close(preflight.lock(tmp_path / "serve.lock", "there is one already"))


def test_a_program_that_is_started_does_not_hold_the_lock(tmp_path: Path) -> None:
    """Clusters outlive the gateway; its lock must not live on in them."""
    held = preflight.lock(tmp_path / "serve.lock", "")
    command = [sys.executable, "-c", "print('up', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        os.close(held)

        os.close(preflight.lock(tmp_path / "serve.lock", "the child holds it"))

        child.communicate(b"\n")


def test_a_port_that_is_taken_is_a_sentence_with_another_port() -> None:
    """The person at the terminal can copy the way out."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(CannotServe, match=rf"another program has that port.*--address 127\.0\.0\.1:{port + 1}"):
            bind(Address("127.0.0.1", port))


@pytest.mark.parametrize(
    ("host", "words"), [("192.0.2.77", "this machine has no address"), ("nowhere.invalid", "is not known")]
)
def test_an_address_that_is_not_ours_is_a_sentence(host: str, words: str) -> None:
    """No traceback."""
    with pytest.raises(CannotServe, match=words):
        bind(Address(host, 0))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_port_zero_is_any_free_one(host: str) -> None:
    """The address that is told afterwards is the one that is bound."""
    with bind(Address(host, 0)) as listener:
        address = bound_address(listener, Address(host, 0))

        assert address.port != 0
        socket.create_connection((address.host, address.port)).close()


def test_what_a_dead_proxy_left_behind_is_removed(tmp_path: Path) -> None:
    """A socket file on which nobody listens is no proxy; its folder may lie deeper than an address may be long."""
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    folder = os.open(deep, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(f"/proc/self/fd/{folder}/proxy-4711.sock")
    os.close(folder)

    assert find_living(deep) == []
    assert list(deep.iterdir()) == []
