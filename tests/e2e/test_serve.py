"""``tidegate serve`` from its first start: what it opens, what it leaves, and what it refuses."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.e2e.gateways import GatewayProcess
from tests.support import ANY_TLS, eventually_sync

MakeGateway = Callable[..., GatewayProcess]

pytestmark = pytest.mark.timeout(180)

FOUR_LINES = """
from {package} import Gateway
cluster = Gateway().new_cluster()
cluster.scale(1)
client = cluster.get_client()
print("the answer is", client.submit(lambda: 6 * 7).result(timeout=60))
client.close()
cluster.shutdown()
"""


def listening(pids: list[int]) -> set[str]:
    """Return the addresses, without ports, on which these processes listen for TCP connections."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry))
            if found:
                inodes.add(found[1])
    addresses = set()
    for family, name in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                raw = bytes.fromhex(fields[1].partition(":")[0])
                words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
                addresses.add(socket.inet_ntop(family, words))
    return addresses


# -- the first start ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["tidegate", "dask_gateway"])
def test_the_printed_lines_work_without_arguments_in_either_client(gateway: GatewayProcess, package: str) -> None:
    """What the first start left is enough for any notebook of that user."""
    ran = gateway.run_python(FOUR_LINES.format(package=package))

    assert "the answer is 42" in ran.stdout, ran.stderr


def test_the_snippet_on_the_terminal_is_what_was_tested(gateway: GatewayProcess) -> None:
    """It can be pasted as it is printed."""
    lines = gateway.text.partition("In a notebook:\n")[2].partition("  Ctrl-C")[0]

    ran = gateway.run_python("\n".join(line.strip() for line in lines.splitlines()) + "\ncluster.shutdown()")

    assert ran.returncode == 0, ran.stderr


def test_the_credential_is_the_users_alone(gateway: GatewayProcess) -> None:
    """Its file is 0600, and every folder of the gateway's is closed to others."""
    path = gateway.home / ".config" / "dask" / "tidegate.yaml"

    assert path.stat().st_mode & 0o777 == 0o600
    assert gateway.data.stat().st_mode & 0o777 == 0o700
    assert (gateway.data / "seal.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer tdg_" + 43 * "x"}, {"Authorization": "Basic cm9vdDo="}]
)
def test_without_the_credential_everything_is_401(gateway: GatewayProcess, headers: dict[str, str]) -> None:
    """The same words, whatever was wrong."""
    for path in ("/api/v1/options", "/api/v1/clusters/", "/api/v2/clusters", "/api/v2/whoami"):
        answer = httpx.get(gateway.url + path, headers=headers)
        assert (answer.status_code, "Authentication required" in answer.text) == (401, True), path


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another OS user takes root")
def test_another_os_users_process_gets_401(gateway: GatewayProcess) -> None:
    """It can reach the port, and that is all."""
    code = (
        # What is imported later is looked for with the rights of nobody.
        "import encodings.idna, os, urllib.request as r, urllib.error as e\n"
        f"os.setgid(65534); os.setuid(65534)\n"
        f"try: open({str(gateway.home / '.config/dask/tidegate.yaml')!r}); print('read the file')\n"
        "except PermissionError: print('file closed')\n"
        f"try: r.urlopen({gateway.url + '/api/v2/clusters'!r}); print('came in')\n"
        "except e.HTTPError as error: print(error.code)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert ran.stdout.split("\n")[:2] == ["file closed", "401"], ran.stderr


def test_nothing_listens_beyond_loopback(gateway: GatewayProcess) -> None:
    """Not the gateway, not a scheduler, not a worker, not a dashboard."""
    created = httpx.post(f"{gateway.url}/api/v2/clusters", headers=gateway.headers, json={})
    name = created.json()["name"]
    there = f"{gateway.url}/api/v2/clusters/{name}"

    def body() -> dict[str, object]:
        answer: dict[str, object] = httpx.get(there, headers=gateway.headers, verify=ANY_TLS).json()
        return answer

    eventually_sync(lambda: body()["state"] == "running", 60, "the cluster runs")
    scaled = httpx.patch(there, headers=gateway.headers, json={"workers": 1})
    assert scaled.status_code == 200, scaled.text
    eventually_sync(lambda: body()["workers"]["running"] == 1, 60, "its worker runs")  # type: ignore[index]

    assert len(gateway.processes(name)) >= 3
    assert listening(gateway.processes()) == {"127.0.0.1"}
    assert httpx.delete(there, headers=gateway.headers).status_code in (200, 202, 204)
    eventually_sync(lambda: not gateway.processes(name), 30, "nothing of the cluster is left")


def test_no_secret_is_in_arguments_environments_or_logs(gateway: GatewayProcess) -> None:
    """Any user of the machine can read arguments; logs are copied into tickets."""
    httpx.get(gateway.login_url)
    code = gateway.login_url.partition("code=")[2]
    for pid in gateway.processes():
        for name in ("cmdline", "environ"):
            text = Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
            assert gateway.token not in text
            assert code not in text
    for log in gateway.data.rglob("*.log"):
        text = log.read_text(errors="replace")
        assert gateway.token not in text
        assert code not in text


def test_the_login_link_works_once(gateway: GatewayProcess) -> None:
    """A link in a scroll-back opens nothing."""
    httpx.get(gateway.login_url, follow_redirects=True)

    assert httpx.get(gateway.login_url).status_code == 401


def test_a_configuration_of_the_users_own_is_left_alone(make_gateway: MakeGateway) -> None:
    """A platform's gateway stays the one that dask_gateway finds, and the terminal says so."""
    gateway = make_gateway()
    folder = gateway.home / ".config" / "dask"
    folder.mkdir(parents=True)
    (folder / "gateway.yaml").write_text("gateway:\n  address: https://platform.example.org\n")

    gateway.start()

    assert gateway.says(f"{folder / 'gateway.yaml'} has a `gateway:` section already")
    assert list(gateway.client_config) == ["tidegate"]
    found = gateway.run_python("import dask.config; print(dask.config.get('gateway.address'))")
    assert found.stdout.strip() == "https://platform.example.org"


def test_a_later_start_keeps_the_token_and_follows_the_address(make_gateway: MakeGateway) -> None:
    """Running notebooks keep their credential; new ones find the new port. New data means a new token."""
    gateway = make_gateway("--config", "small.yaml")
    # Nobody makes a cluster here.
    (gateway.home / "small.yaml").write_text("backend: {zygotes: 0}\n")
    gateway.start()
    token, address = gateway.token, gateway.client_config["tidegate"]["address"]
    gateway.stop()

    gateway.start()
    assert (gateway.token, gateway.client_config["tidegate"]["address"]) == (token, gateway.url)
    gateway.stop()

    gateway.arguments[-1] = str(gateway.data.with_name("other"))
    gateway.start()
    assert gateway.token != token
    assert address.startswith("http://127.0.0.1:")
    assert httpx.get(f"{gateway.url}/api/v2/whoami", headers=gateway.headers).status_code == 200


def test_a_home_that_cannot_be_written_is_no_reason_not_to_serve(make_gateway: MakeGateway) -> None:
    """The credential is laid aside, and the terminal says how it is used."""
    gateway = make_gateway()
    (gateway.home / ".config").write_text("a file where a folder is expected\n")
    gateway.start()

    assert "cannot write" in gateway.text
    assert f"DASK_CONFIG={gateway.data / 'dask'}" in gateway.text
    found = "from tidegate import Gateway; print(Gateway().list_clusters())"
    ran = gateway.run_python(found, DASK_CONFIG=str(gateway.data / "dask"))
    assert ran.stdout.strip() == "[]", ran.stderr


def test_a_start_that_fails_for_any_reason_ends_in_a_sentence(make_gateway: MakeGateway) -> None:
    """Not in a process that is started again and again, nor in one that keeps the port."""
    gateway = make_gateway()
    (gateway.data / "run" / "api.sock" / "in the way").mkdir(parents=True)
    gateway.data.chmod(0o700)

    gateway.launch()
    assert gateway.wait() == 1

    assert "cannot go on: IsADirectoryError" in gateway.text
    assert f"{gateway.data / 'logs' / 'control.log'} tells more" in gateway.text
    assert "Traceback" not in gateway.text
    assert gateway.processes() == []


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_second_gateway_on_the_same_data_is_refused(gateway: GatewayProcess) -> None:
    """With a sentence that says how to have two; the first one does not notice."""
    ran = gateway.run_cli("serve", "--address", "127.0.0.1:0", "--data", str(gateway.data))

    assert ran.returncode == 1
    assert f"a gateway is running on {gateway.data} already" in ran.stderr
    assert httpx.get(f"{gateway.url}/api/v2/health").status_code == 200


def test_a_taken_port_is_refused_with_another_one(gateway: GatewayProcess) -> None:
    """The sentence can be copied."""
    taken = gateway.url.partition("//")[2]

    ran = gateway.run_cli("serve", "--address", taken, "--data", str(gateway.folder / "second"))

    assert ran.returncode == 1
    assert f"cannot listen at {taken}: another program has that port" in ran.stderr
    assert "--address 127.0.0.1:" in ran.stderr


def test_beyond_loopback_without_tls_is_refused(gateway: GatewayProcess) -> None:
    """Before anything is opened, with both ways out."""
    ran = gateway.run_cli("serve", "--address", "0.0.0.0:0", "--data", str(gateway.folder / "third"))

    assert ran.returncode == 1
    assert "without TLS" in ran.stderr
    assert not (gateway.folder / "third").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("adress: 127.0.0.1:0\n", "tidegate.yaml:1: adress is not a setting; did you mean address?"),
        ("backend:\n  name: slurn\n", "tidegate.yaml:2: cannot set backend.name to 'slurn'"),
        ("backend:\n  enviroments: {}\n", "tidegate.yaml:2: backend.enviroments is not a setting; did you mean env"),
        ("options:\n  worker_coers: {maximum: 2}\n", "tidegate.yaml:2: options.worker_coers is not an option"),
        ("options:\n  worker_cores:\n    default: 0\n", "tidegate.yaml:3: options.worker_cores.default cannot be 0"),
    ],
)
def test_a_mistake_in_the_configuration_is_told_with_its_line(gateway: GatewayProcess, text: str, words: str) -> None:
    """By ``serve`` and by ``config check`` alike, and without a traceback."""
    file = gateway.folder / "tidegate.yaml"
    file.write_text(text)

    served = gateway.run_cli("serve", "--config", str(file), "--address", "127.0.0.1:0")
    checked = gateway.run_cli("config", "check", "--config", str(file))

    assert (served.returncode, checked.returncode) == (1, 1)
    assert words in served.stderr
    assert words in checked.stderr


# -- prefix and TLS ----------------------------------------------------------------------------------------------------


def test_all_of_it_works_below_a_prefix(make_gateway: MakeGateway) -> None:
    """API, console and schedulers, with the address that has the prefix in it, in either client."""
    gateway = make_gateway("--config", "prefix.yaml")
    (gateway.home / "prefix.yaml").write_text("prefix: /services/dask-gateway\n")
    gateway.start()

    assert gateway.url.endswith("/services/dask-gateway")
    assert httpx.get(f"{gateway.url}/api/v1/options", headers=gateway.headers).status_code == 200
    page = httpx.get(gateway.login_url, follow_redirects=True)
    assert page.status_code == 200
    assert str(page.url).startswith(gateway.url)
    for package in ("tidegate", "dask_gateway"):
        ran = gateway.run_python(FOUR_LINES.format(package=package))
        assert "the answer is 42" in ran.stdout, ran.stderr


def test_http_and_schedulers_share_the_tls_port(make_gateway: MakeGateway) -> None:
    """With a certificate that only the file vouches for: our client is told by its configuration."""
    gateway = make_gateway("--config", "tls.yaml")
    cert, key = gateway.home / "cert.pem", gateway.home / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    (gateway.home / "tls.yaml").write_text("tls: {cert: cert.pem, key: key.pem}\n")
    gateway.start()

    assert gateway.url.startswith("https://127.0.0.1:")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{gateway.url}/api/v2/health")
    told: tuple[tuple[str, dict[str, str]], ...] = (("tidegate", {}), ("dask_gateway", {"SSL_CERT_FILE": str(cert)}))
    for package, environ in told:
        ran = gateway.run_python(FOUR_LINES.format(package=package), **environ)
        assert "the answer is 42" in ran.stdout, ran.stderr


def test_explain_prints_a_configuration_that_can_be_used(gateway: GatewayProcess) -> None:
    """What it prints is a file that ``check`` finds no mistake in."""
    printed = gateway.run_cli("config", "explain")
    file = gateway.folder / "explained.yaml"
    file.write_text(printed.stdout)

    checked = gateway.run_cli("config", "check", "--config", str(file))

    assert "Where the gateway listens" in printed.stdout
    assert (checked.returncode, checked.stderr) == (0, "")
