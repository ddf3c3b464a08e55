"""An administrator's limits in a whole gateway, as both clients meet them."""

from __future__ import annotations

import time
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from dask_gateway import BasicAuth
from dask_gateway import Gateway as OfficialGateway
from dask_gateway import GatewayClusterError as OfficialClusterError

from tests.e2e.gateways import GatewayProcess, serving
from tests.support import eventually_sync
from tidegate import Gateway, GatewayClusterError, GatewayWarning, TokenAuth

pytestmark = pytest.mark.timeout(180)

CONFIG = """
authentication:
  groups: {students: [alice, bob]}
  admins: [root]
limits:
  user: {clusters: 1}
  groups:
    students: {each: {clusters: 2, cores: 3}, together: {cores: 4}}
options:
  worker_cores: {maximum: 2}
  worker_memory: {default: 1, fixed: true}
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway whose administrator has written all that down."""
    with serving(tmp_path_factory.mktemp("platform") / "gateway", CONFIG) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def tokens(platform: GatewayProcess) -> dict[str, str]:
    """Of two students and of the administrator."""
    return {name: platform.mint(name) for name in ("alice", "bob", "root")}


@pytest.fixture
def alice(platform: GatewayProcess, tokens: dict[str, str]) -> Iterator[Gateway]:
    """A student, with our client."""
    with Gateway(platform.url, auth=TokenAuth(tokens["alice"])) as gateway:
        yield gateway


@pytest.fixture
def bob(platform: GatewayProcess, tokens: dict[str, str]) -> Iterator[OfficialGateway]:
    """Another one, with the official client."""
    with OfficialGateway(platform.url, auth=BasicAuth("bob", tokens["bob"])) as gateway:
        yield gateway


def use_of(gateway: Gateway, scope: str, resource: str) -> float:
    """Return how much is in use of what the gateway counts."""
    (used,) = [limit.used for limit in gateway.limits() if (limit.scope, limit.resource) == (scope, resource)]
    return float(used)


def test_students_share_what_there_is(alice: Gateway, bob: OfficialGateway) -> None:
    """Each gets what fits, with a warning that names the limit and what is in use; what ends makes room."""
    with alice.new_cluster() as ours:
        with pytest.warns(GatewayWarning, match="3 cores for each member of the group students, of which 0 are in use"):
            ours.scale(10)
        with ours.get_client() as client:
            client.wait_for_workers(3, timeout=60)
        with bob.new_cluster() as theirs, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            theirs.scale(3)
            told = " ".join(str(warning.message) for warning in caught)
            assert "Scale request of 3 workers would exceed resource limit of 1 workers. Scaling to 1 instead." in told
            assert "4 cores for the group students together, of which 3 are in use" in told
            assert use_of(alice, "group:students", "cores") == 4
    eventually_sync(lambda: use_of(alice, "group:students", "cores") == 0, 30, "what has ended no longer counts")


def test_loads_share_what_there_is(alice: Gateway, bob: OfficialGateway) -> None:
    """Whoever has more than the half gives back while another load waits, and the record says why. No result is lost:
    what was on the worker that went has moved, and is not computed again."""

    # Within, so that they travel by value: workers do not have this module.
    def unique(number: int) -> str:
        return f"{number}-{uuid.uuid4()}"

    def work(number: int) -> int:
        time.sleep(0.2)
        return number

    with (
        alice.new_cluster() as ours,
        bob.new_cluster() as theirs,
        ours.get_client() as one,
        theirs.get_client() as two,
    ):

        def sizes() -> list[int]:
            return [len(client.scheduler_info()["workers"]) for client in (one, two)]

        ours.adapt(minimum=1, maximum=3)
        load = one.map(work, range(2000), pure=False)
        eventually_sync(lambda: sizes() == [3, 0], 60, "three workers of alice's")
        held = one.map(unique, range(30), priority=1, pure=False)
        before = one.gather(held)

        theirs.adapt(minimum=0, maximum=3)
        others = two.map(work, range(2000), pure=False)
        eventually_sync(lambda: sizes() == [2, 2], 90, "two workers for each")

        assert one.gather(held) == before
        notes = " ".join(alice.get_cluster(ours.name).notes)
        assert "2 of the 3 workers that are asked for: the limit is 4 cores for the group students" in notes
        assert "shared with others" in notes
        one.cancel(load)
        two.cancel(others)
    eventually_sync(lambda: use_of(alice, "user:alice", "clusters") == 0, 60, "hers has ended")
    eventually_sync(lambda: use_of(alice, "group:students", "cores") == 0, 60, "his too")


def test_the_cluster_that_is_too_many_is_refused(alice: Gateway, bob: OfficialGateway) -> None:
    """In the same words by both clients; of twenty requests at once exactly as many succeed as may."""
    words = "the limit is 2 clusters for each member of the group students, of which 2 are in use"

    def submit(gateway: Gateway | OfficialGateway) -> str:
        return str(gateway.submit())

    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(submit, alice) for _ in range(20)]
    made = [future.result() for future in asked if future.exception() is None]
    refused = [str(future.exception()) for future in asked if future.exception() is not None]
    assert len(made) == 2
    assert all(words in text for text in refused), refused

    theirs = [bob.submit(), bob.submit()]
    with pytest.raises(OfficialClusterError, match=words):
        bob.submit()
    with pytest.raises(GatewayClusterError, match=words):
        alice.submit()
    for name in made:
        alice.stop_cluster(name)
    for name in theirs:
        bob.stop_cluster(name)
    eventually_sync(lambda: use_of(alice, "user:alice", "clusters") == 0, 60, "what has ended no longer counts")


@pytest.fixture
def root(platform: GatewayProcess, tokens: dict[str, str]) -> Iterator[GatewayProcess]:
    """The same gateway, whose commands are run as its administrator."""
    platform.more_environ = {"DASK_TIDEGATE__AUTH__TYPE": "token", "DASK_TIDEGATE__AUTH__KWARGS__TOKEN": tokens["root"]}
    yield platform
    platform.more_environ = {}


def test_an_administrator_sets_limits_by_command(root: GatewayProcess, alice: Gateway) -> None:
    """They count at once, and go as they came."""

    def limits(*arguments: str) -> str:
        done = root.run_cli("limits", *arguments, "--address", root.url)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert limits("set", "user:alice", "clusters", "0") == "user:alice: clusters 0\n"
    with pytest.raises(GatewayClusterError, match="the limit is 0 clusters for alice, of which 0 are in use"):
        alice.submit()
    assert "user:alice" in limits("rules")
    limits("unset", "user:alice", "clusters")
    alice.stop_cluster(alice.submit())


def test_monitoring_reads_the_figures(platform: GatewayProcess, tokens: dict[str, str]) -> None:
    """Where Prometheus looks for them, with an administrator's token and none else."""
    statuses = {}
    for user in ("alice", "root"):
        reply = httpx.get(f"{platform.url}/metrics", headers={"Authorization": f"Bearer {tokens[user]}"})
        statuses[user] = reply.status_code
    assert statuses == {"alice": 403, "root": 200}
    assert 'tidegate_clusters{state="running"}' in reply.text
    assert 'tidegate_effects_total{effect="Launch",outcome="done"}' in reply.text
    assert httpx.get(f"{platform.url}/metrics").status_code == 401


def test_a_cluster_waits_for_its_turn(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where the administrator has it so: it says its place, can be stopped in the line, and starts in its turn."""
    folder = tmp_path_factory.mktemp("line") / "gateway"
    with serving(folder, "limits: {when_full: wait, user: {clusters: 1}}") as line:
        token = line.mint("alice")
        official = OfficialGateway(line.url, auth=BasicAuth("alice", token))
        with official, Gateway(line.url, auth=TokenAuth(token)) as gateway:
            with gateway.new_cluster():
                second, third = gateway.submit(), official.submit()
                words = "It waits for room as number {} in line: "
                for number, name in enumerate((second, third), 1):
                    place = words.format(number)
                    eventually_sync(
                        lambda name=name, place=place: place in gateway.get_cluster(name).notes[0], 30, place
                    )
                assert {c.status.name for c in official.list_clusters()} == {"PENDING", "RUNNING"}
                gateway.stop_cluster(third)
            with gateway.connect(second) as cluster, cluster.get_client() as client:
                assert client.scheduler is not None
            gateway.stop_cluster(second)
