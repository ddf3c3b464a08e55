"""An administrator's options in a whole gateway: both clients get what is in the file, and tasks run with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_gateway import BasicAuth
from dask_gateway import Gateway as OfficialGateway
from distributed import Client

from tests.e2e.gateways import TIDEGATE, GatewayProcess, serving
from tests.support import eventually_sync
from tidegate import Gateway, GatewayValueError, TokenAuth

pytestmark = pytest.mark.timeout(180)

CONFIG = """
authentication: {groups: {students: [alice], staff: [bob]}}
options_hook: rules.py:choose
profiles:
  small: {label: Small, values: {worker_memory: 1}}
  wide: {label: Wide, groups: [staff], values: {worker_threads: 3}}
options:
  worker_cores: {maximum: 2, by_group: {students: {fixed: true}}}
  worker_memory: {default: 2, fixed: true}
  worker_threads: {hidden: true}
  variables: {default: {GREETING: "hello {user}"}}
  workers: {maximum: 2}
  project: {type: string, default: none, patterns: [none, ice-*]}
"""

HOOK = """
import asyncio

async def choose(user, groups, values):
    await asyncio.sleep(0)
    if values["project"] == "ice-full":
        raise ValueError(f"{user}, there is no room in ice-full.\\nAsk:\\n  the ice people")
    if "staff" in groups:
        return {"workers": 1}
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway whose administrator has written all that down."""
    folder = tmp_path_factory.mktemp("platform") / "gateway"
    (folder / "home").mkdir(parents=True)
    (folder / "home" / "rules.py").write_text(HOOK)
    with serving(folder, CONFIG) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def tokens(platform: GatewayProcess) -> dict[str, str]:
    """Of a student and of one of the staff."""
    return {name: platform.mint(name) for name in ("alice", "bob")}


def looked(client: Client) -> tuple[str, str, int]:
    """Return what a task sees of the options."""

    def look() -> tuple[str, str, int]:
        from distributed import get_worker

        return os.environ["GREETING"], os.environ.get("KEY", ""), get_worker().state.nthreads

    found: tuple[str, str, int] = client.submit(look, pure=False).result(timeout=60)
    return found


def test_a_student_gets_what_is_offered(platform: GatewayProcess, tokens: dict[str, str]) -> None:
    """Fixed, checked and filled in; variables reach tasks and are told to nobody."""
    with Gateway(platform.url, auth=TokenAuth(tokens["alice"])) as gateway:
        options = gateway.cluster_options()
        assert "worker_threads" not in options
        assert (options.profile, options.worker_memory, options.project) == ("small", 1.0, "none")
        with pytest.raises(GatewayValueError, match="it is fixed at 1 by the administrator"):
            options.worker_cores = 2
        with pytest.raises(GatewayValueError, match="choose one of small"):
            options.profile = "wide"
        options.variables = {"GREETING": "***", "KEY": "geheim"}
        options.workers = 1

        with gateway.new_cluster(options) as cluster, cluster.get_client() as client:
            assert looked(client) == ("hello alice", "geheim", 1)
            report = gateway.get_cluster(cluster.name)
            assert report.options["variables"] == {"GREETING": "***", "KEY": "***"}
            assert "geheim" not in repr(report) + str(gateway.get_logs(cluster.name))
            assert b"geheim" not in b"".join(file.read_bytes() for file in platform.data.glob("tidegate.sqlite*"))
            assert _with_secret(platform), "it lies where scheduler and workers read it"
        eventually_sync(lambda: not _with_secret(platform), 30, "nothing secret is left when the cluster has ended")


def _with_secret(platform: GatewayProcess) -> list[Path]:
    """Return the files in which the secret stands."""
    found = []
    # Not ``rglob``: it fails where a folder goes away while it looks, and those of clusters do.
    for folder, _, names in os.walk(platform.data):
        for file in (Path(folder, name) for name in names if name.endswith(".json")):
            with contextlib.suppress(OSError):
                found += [file] if b"geheim" in file.read_bytes() else []
    return found


def test_the_hook_has_the_last_word(platform: GatewayProcess, tokens: dict[str, str]) -> None:
    """Every line of it, in both clients; and what it sets is what runs, with a profile that is for some only."""
    words = "bob, there is no room in ice-full.\nAsk:\n  the ice people"
    with Gateway(platform.url, auth=TokenAuth(tokens["bob"])) as gateway:
        with pytest.raises(GatewayValueError) as caught:
            gateway.submit(project="ice-full")
        assert str(caught.value) == words
        with gateway.new_cluster(profile="Wide", worker_cores=2) as cluster, cluster.get_client() as client:
            assert looked(client) == ("hello bob", "", 3)

    with OfficialGateway(platform.url, auth=BasicAuth("bob", tokens["bob"])) as official:
        with pytest.raises(ValueError, match="there is no room") as refused:
            official.submit(project="ice-full")
        assert str(refused.value) == words


def test_the_official_client_sees_the_same(platform: GatewayProcess, tokens: dict[str, str]) -> None:
    """Its form has labels for choices and cannot leave what is fixed; its cluster begins with the workers asked for."""
    with OfficialGateway(platform.url, auth=BasicAuth("alice", tokens["alice"])) as gateway:
        options = gateway.cluster_options()
        assert dict(options) == {
            "profile": "Small",
            "worker_cores": 1,
            "worker_memory": 1.0,
            "variables": {"GREETING": "***"},
            "workers": 0,
            "project": "none",
        }
        with pytest.raises(ValueError, match="worker_cores must be"):
            options.worker_cores = 2
        options.workers = 1
        options.project = "ice-core"
        with gateway.new_cluster(options) as cluster, cluster.get_client() as client:
            assert looked(client) == ("hello alice", "", 1)


def check(folder: Path, config: str) -> subprocess.CompletedProcess[str]:
    """Run ``tidegate config check`` on a configuration."""
    (folder / "tidegate.yaml").write_text(config)
    command: list[Any] = [*TIDEGATE, "config", "check", "--config", folder / "tidegate.yaml"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_check_tells_what_is_offered_and_what_is_wrong(tmp_path: Path) -> None:
    """Before anybody is served; a hook that is not there too."""
    (tmp_path / "rules.py").write_text(HOOK)
    good = check(tmp_path, CONFIG)
    bad = check(tmp_path, CONFIG.replace(":choose", ":chose"))

    assert good.returncode == 0, good.stderr
    for line in (
        "  for students: fixed at 1",
        "variables: mapping, default GREETING=***",
        "profile wide: worker_threads",
    ):
        assert line in good.stdout
    assert bad.returncode == 1
    assert "tidegate.yaml:3: cannot use options_hook 'rules.py:chose'" in bad.stderr
