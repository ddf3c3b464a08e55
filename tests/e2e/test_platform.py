"""On a platform: behind what passes HTTP only and below a path of it, and with certificates that are replaced."""

from __future__ import annotations

import asyncio
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest
from aiohttp import web

from tests.e2e.gateways import GatewayProcess
from tests.support import eventually_sync
from tidegate import Gateway, TokenAuth

MakeGateway = Callable[..., GatewayProcess]

pytestmark = pytest.mark.timeout(180)

PREFIX = "/services/dask-gateway"

PROGRAM = """
from {package} import Gateway
with Gateway().new_cluster() as cluster:
    cluster.scale(1)
    print("the answer is", cluster.get_client().submit(sum, [20, 22]).result(timeout=60))
    print("link", cluster.dashboard_link)
"""


class Front:
    """A reverse proxy of the worst kind: it keeps path and Host, knows HTTP only, and holds back what is not whole."""

    def __init__(self) -> None:
        self.netloc = ""
        self.behind = ""

    async def pass_on(self, request: web.BaseRequest) -> web.StreamResponse:
        """Pass a request on, and the answer back."""
        headers = {k: v for k, v in request.headers.items() if k.lower() != "content-length"}
        url = f"http://{self.behind}{request.path_qs}"
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, url, headers=headers, data=await request.read(), allow_redirects=False
            ) as answer,
        ):
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in ("content-length", "transfer-encoding")}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    """A reverse proxy that listens; what it is in front of is set later."""
    front = Front()
    runner = web.ServerRunner(web.Server(front.pass_on))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    front.netloc = "localhost:{1}".format(*runner.addresses[0])
    yield front
    await runner.cleanup()


def start_behind(gateway: GatewayProcess, front: Front) -> None:
    """Start the gateway, and start it again with the settings that its port, known then, belongs into."""
    config = gateway.home / "tidegate.yaml"
    config.write_text("")
    gateway.start()
    front.behind = urlsplit(gateway.url).netloc
    gateway.send(signal.SIGKILL)
    gateway.wait()
    config.write_text(
        f"prefix: {PREFIX}\npublic_url: http://{front.netloc}{PREFIX}\n"
        f"proxy_address: {front.behind}\ndashboards: {{mode: path}}\n"
    )
    gateway.start()


async def test_schedulers_have_a_way_of_their_own_where_http_has_a_proxy(
    make_gateway: MakeGateway, front: Front
) -> None:
    """Either client, without arguments: HTTP by the public address, the schedulers' TLS straight to the port."""
    gateway = make_gateway("--config", "tidegate.yaml")
    await asyncio.to_thread(start_behind, gateway, front)
    assert gateway.url == f"http://{front.netloc}{PREFIX}"

    for package in ("tidegate", "dask_gateway"):
        ran = await asyncio.to_thread(gateway.run_python, PROGRAM.format(package=package))
        assert "the answer is 42" in ran.stdout, ran.stderr
        assert f"link {gateway.url}/clusters/" in ran.stdout

    told = await asyncio.to_thread(httpx.get, f"{gateway.url}/api/v2/version")
    assert told.json()["proxy_address"] == front.behind


async def test_a_browser_sees_dashboards_below_the_prefix(make_gateway: MakeGateway, front: Front) -> None:
    """From the login link over the console to the page, all of it by the front."""
    gateway = make_gateway("--config", "tidegate.yaml")
    await asyncio.to_thread(start_behind, gateway, front)

    def browse() -> httpx.Response:
        browser = httpx.Client(follow_redirects=True, headers={"User-Agent": "Mozilla/5.0"}, timeout=60)
        with browser, Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user, user.new_cluster() as cluster:
            assert browser.get(gateway.login_url).status_code == 200
            return browser.get(cluster.dashboard_link)

    page = await asyncio.to_thread(browse)
    assert page.status_code == 200
    assert str(page.url).startswith(f"{gateway.url}/clusters/")
    assert "Bokeh" in page.text


def make_certificate(folder: Path) -> None:
    """Write a new certificate and its key over the old ones."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command, *files], check=True, capture_output=True)


def test_a_new_certificate_is_served_after_a_restart(make_gateway: MakeGateway) -> None:
    """Although proxies live through a restart, and the settings that name the files are the same."""
    gateway = make_gateway("--config", "tls.yaml")
    (gateway.home / "tls.yaml").write_text("tls: {cert: cert.pem, key: key.pem}\n")
    make_certificate(gateway.home)
    gateway.start()
    where = urlsplit(gateway.url)

    def served() -> str:
        return ssl.get_server_certificate((where.hostname or "", where.port or 0), timeout=30)

    assert served().split() == (gateway.home / "cert.pem").read_text().split()
    make_certificate(gateway.home)
    gateway.send(signal.SIGKILL)
    gateway.wait()
    gateway.start()

    new = (gateway.home / "cert.pem").read_text().split()
    # By each of the proxies: which of them takes a connection is up to the kernel.
    eventually_sync(lambda: all(served().split() == new for _ in range(8)), 60, "the new certificate is served")
