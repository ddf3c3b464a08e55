"""The client on the other Pythons that it promises: its own tests, and a cluster of that Python behind a real gateway.

An environment for each lies under ``.envs``, made once. A Python that is not at hand is skipped.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.gateways import GatewayProcess, serving
from tidegate import Gateway, GatewayClusterError, TokenAuth

ROOT = Path(__file__).parents[2]
PACKAGES = ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "dask-gateway", "ipywidgets", "numpy")

pytestmark = [pytest.mark.compat, pytest.mark.timeout(600)]


OTHERS = ("3.10", "3.12", "3.13")


def environment_of(version: str) -> Path:
    """Return the Python of an environment that has the light install, and what its tests need."""
    found = sorted(Path(os.path.expanduser("~/.pyenv/versions")).glob(f"{version}.*/bin/python"))
    if not found:
        pytest.skip(f"Python {version} is not at hand (pyenv install {version})")
    folder = ROOT / ".envs" / f"client-{version}"
    python, complete = folder / "bin" / "python", folder / "complete"
    recipe = "\n".join([str(found[-1]), *PACKAGES, (ROOT / "pyproject.toml").read_text()])
    folder.parent.mkdir(exist_ok=True)
    with open(folder.parent / f"client-{version}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists() or complete.read_text() != recipe:
            uv = str(Path(sys.executable).with_name("uv"))
            subprocess.run([uv, "venv", "-q", "--clear", "--python", str(found[-1]), str(folder)], check=True)
            subprocess.run(
                [uv, "pip", "install", "-q", "--python", str(python), "-e", str(ROOT), *PACKAGES], check=True
            )
            complete.write_text(recipe)
    return python


def test_the_clients_own_tests_pass(tmp_path: Path) -> None:
    """Those that need no server. In all Pythons at the same time, for half of what they do is waiting."""
    pythons = {version: environment_of(version) for version in OTHERS}
    running = {}
    try:
        for version, python in pythons.items():
            command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/client"]
            with (tmp_path / version).open("wb") as output:
                running[version] = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        ended = {version: process.wait(500) for version, process in running.items()}
    finally:
        for process in running.values():
            process.kill()

    for version, status in ended.items():
        assert status == 0, f"with Python {version}:\n{(tmp_path / version).read_text()[-5000:]}"


@pytest.fixture(params=OTHERS)
def other_python(request: pytest.FixtureRequest) -> Path:
    """Return the Python of such an environment."""
    return environment_of(request.param)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A running gateway; it is stopped in the end, and nothing of it is left."""
    # Every cluster has another Python: no zygote would be of use to the next.
    with serving(tmp_path_factory.mktemp("gateway"), "backend: {zygotes: 0}\n") as running:
        yield running


def test_a_cluster_of_a_dask_that_cannot_be_talked_to_is_refused_in_words(
    oldest_dask: Path, gateway: GatewayProcess
) -> None:
    """Before the first connection, which would fail with a traceback about an argument."""
    asked = {"options": {}, "hints": {"python": str(oldest_dask)}}
    made = httpx.post(f"{gateway.url}/api/v2/clusters", json=asked, headers=gateway.headers, timeout=60)
    name = made.json()["name"]

    with (
        Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user,
        pytest.raises(GatewayClusterError, match=r"distributed is .* here and 2024\.1\.0 in the cluster") as caught,
    ):
        user.connect(name)

    assert caught.value.code == "incompatible-versions"


def test_a_notebook_of_another_python_gets_a_cluster_of_its_own(other_python: Path, gateway: GatewayProcess) -> None:
    """The cluster runs in the notebook's interpreter, which has nothing of the server. Versions agree: no warning."""
    code = (
        "import sys, warnings; warnings.simplefilter('error')\n"
        "from tidegate import Gateway\n"
        "with Gateway() as gateway, gateway.new_cluster() as cluster, cluster.get_client() as client:\n"
        "    cluster.scale(1); cluster.wait_for_workers(1, timeout=60)\n"
        "    print(client.submit(lambda: sys.version_info[:2]).result() == sys.version_info[:2])"
    )

    done = subprocess.run(
        [other_python, "-c", code], env=gateway.environ, cwd=gateway.home, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"
