"""The policy of a whole platform (``deploy/policy/platform.yaml``), as it stands: each line of it does what it says.

What takes hours or hundreds of cores is tried on simulated clusters, whose time a test moves; the rest, and that the
same file serves with real clusters, by ``tidegate serve``. Every test says which lines it proves, and a line that none
does fails the last one.
"""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest
import yaml
from dask_gateway import BasicAuth
from dask_gateway import Gateway as OfficialGateway
from dask_gateway import GatewayClusterError as OfficialClusterError

from tests.e2e.gateways import GatewayProcess, serving
from tests.e2e.simulated import SimulatedGateway, simulating
from tests.support import eventually_sync
from tidegate import ClusterStatus, Gateway, GatewayClusterError, GatewayValueError, TokenAuth

pytestmark = pytest.mark.timeout(180)

POLICY = Path(__file__).parents[2] / "deploy" / "policy" / "platform.yaml"

GEO, LEARN = "registry.example.org/geo:2026.11", "registry.example.org/learn:2026.11"

STUDENTS, STAFF = ("sam", "sue"), ("kim", "lee")
ICE, SEA = ("sam", "kim"), ("sue", "lee")

HOUR, DAY = 3600.0, 86400.0

PROVEN: dict[str, str] = {}
"""The lines of the file that tests have taken upon themselves, each with the last of these."""

Test = TypeVar("Test", bound=Callable[..., None])


def proves(*lines: str) -> Callable[[Test], Test]:
    """Say which lines of the file a test proves."""

    def note(test: Test) -> Test:
        PROVEN.update(dict.fromkeys(lines, test.__name__))
        return test

    return note


class People:
    """The users of a gateway, with our client and with the official one."""

    def __init__(self, gateway: SimulatedGateway | GatewayProcess, stack: ExitStack) -> None:
        self._gateway, self._stack = gateway, stack
        self._ours: dict[str, Gateway] = {}
        self._theirs: dict[str, OfficialGateway] = {}

    def ours(self, user: str) -> Gateway:
        """Return somebody's client."""
        if user not in self._ours:
            auth = TokenAuth(self._gateway.mint(user))
            self._ours[user] = self._stack.enter_context(Gateway(self._gateway.url, auth=auth))
        return self._ours[user]

    def theirs(self, user: str) -> OfficialGateway:
        """Return somebody's official client."""
        if user not in self._theirs:
            auth = BasicAuth(user, self._gateway.mint(user))
            self._theirs[user] = self._stack.enter_context(OfficialGateway(self._gateway.url, auth=auth))
        return self._theirs[user]


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[SimulatedGateway]:
    """The platform, with simulated clusters."""
    with simulating(POLICY, tmp_path) as gateway:
        yield gateway


@pytest.fixture
def people(simulated: SimulatedGateway) -> Iterator[People]:
    """Its users."""
    with ExitStack() as stack:
        yield People(simulated, stack)


def scaled(gateway: Gateway | OfficialGateway, cluster: str, workers: int) -> str:
    """Scale a cluster; return the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gateway.scale_cluster(cluster, workers)
    return " ".join(str(warning.message) for warning in caught)


# -- options -----------------------------------------------------------------------------------------------------------


@proves(
    "options.image.label",
    "options.image.choices." + GEO,
    "options.image.choices." + LEARN,
    "options.image.default",
    "options.image.type",
    "options.worker_memory.default",
    "options.worker_memory.unit",
    "options.worker_memory.fixed",
    "options.worker_cores.default",
    "options.worker_cores.minimum",
    "options.worker_cores.maximum",
)
def test_both_clients_draw_the_form(people: People) -> None:
    """Two images by their labels, 10 GB that nobody changes, one to four cores; what is wrong is refused at once."""
    ours, theirs = people.ours("sam").cluster_options(), people.theirs("sam").cluster_options()

    assert dict(ours) == {"image": GEO, "worker_memory": 10.0, "worker_cores": 2}
    assert dict(theirs) == {"image": "Geosciences", "worker_memory": 10.0, "worker_cores": 2}
    assert "10 GB" in repr(ours)
    labels = [field.label for field in theirs._fields.values()]
    assert labels == ["Software", "Worker memory (GB)", "Worker cores"]
    assert theirs._fields["image"].options == ("Geosciences", "Machine learning")
    assert all(form is not None for form in (theirs._widget(), ours._repr_html_()))
    ours.image, theirs.image = LEARN, "Machine learning"
    for options in (ours, theirs):
        for name, value in [("image", "mine"), ("worker_memory", 11), ("worker_cores", 0), ("worker_cores", 5)]:
            with pytest.raises(ValueError, match=name):
                options[name] = value
        for cores in (1, 4):
            options.worker_cores = cores
    with pytest.raises(GatewayValueError, match="it is fixed at 10 GB by the administrator of this gateway"):
        ours.worker_memory = "20 GB"


@proves("options.image.choices." + GEO, "options.worker_memory.default", "options.worker_cores.default")
def test_what_was_chosen_is_what_runs(people: People, simulated: SimulatedGateway) -> None:
    """The image, the memory and the cores reach the engine; what the form did not check, the gateway does."""
    ours, theirs = people.ours("kim"), people.theirs("kim")
    options = theirs.cluster_options()
    options.image = "Machine learning"
    chosen = {ours.submit(): (GEO, 2), theirs.submit(options, worker_cores=4): (LEARN, 4)}
    simulated.turn()

    specs = simulated.engine.specs
    assert {n: (specs[n].image, specs[n].worker_cores) for n in chosen} == chosen
    assert {specs[name].worker_memory for name in chosen} == {10 * 10**9}
    for gateway in (ours, theirs):
        with pytest.raises(ValueError, match=r"cannot set image to 'mine': choose one of registry\.example\.org/geo"):
            gateway.submit(image="mine")
        with pytest.raises(ValueError, match="cannot set worker_memory to '20 GB': it is fixed at 10 GB by the admini"):
            gateway.submit(worker_memory="20 GB")
        with pytest.raises(ValueError, match="cannot set worker_cores to 5: it must lie between 1 and 4"):
            gateway.submit(worker_cores=5)


# -- limits ------------------------------------------------------------------------------------------------------------


@proves("authentication.groups.students", "limits.groups.students.each.clusters", "limits.groups.students.each.cores")
@pytest.mark.parametrize("student", STUDENTS)
def test_a_student_has_two_clusters_and_twenty_cores(people: People, simulated: SimulatedGateway, student: str) -> None:
    """A third cluster is refused, in the same words by both clients; a size becomes what fits, with a warning."""
    ours, theirs = people.ours(student), people.theirs(student)
    first, second = ours.submit(), theirs.submit()
    simulated.turn()
    words = "the limit is 2 clusters for each member of the group students, of which 2 are in use"
    for error, submit in ((GatewayClusterError, ours.submit), (OfficialClusterError, theirs.submit)):
        with pytest.raises(error, match=words):
            submit()

    assert scaled(ours, first, 4) == ""
    told = scaled(theirs, second, 7)
    assert "Scale request of 7 workers would exceed resource limit of 6 workers. Scaling to 6 instead." in told
    assert "20 cores for each member of the group students, of which 8 are in use" in told
    assert "20 cores for each member of the group students" in scaled(ours, first, 5)
    used = {(limit.scope, limit.resource): (limit.used, limit.amount) for limit in ours.limits()}
    assert used[(f"user:{student}", "cores")] == (20, 20)
    assert used[(f"user:{student}", "clusters")] == (2, 2)


@proves("authentication.groups.staff", "limits.groups.staff.each.cores")
@pytest.mark.parametrize("member", STAFF)
def test_one_of_the_staff_has_two_hundred_cores(people: People, simulated: SimulatedGateway, member: str) -> None:
    """In as many clusters as they like."""
    ours, theirs = people.ours(member), people.theirs(member)
    names = [ours.submit(), theirs.submit(worker_cores=4), ours.submit()]
    simulated.turn()

    assert [scaled(ours, names[0], 50), scaled(theirs, names[1], 20)] == ["", ""]
    told = scaled(theirs, names[2], 11)
    assert "Scale request of 11 workers would exceed resource limit of 10 workers. Scaling to 10 instead." in told
    assert "200 cores for each member of the group staff, of which 180 are in use" in told


# -- budgets -----------------------------------------------------------------------------------------------------------


def budget_of(gateway: Gateway) -> tuple[str, float, float]:
    """Return the budget that somebody counts for: whose, how much, and what is used of it."""
    (budget,) = gateway.usage().budgets
    return budget.scope, budget.amount, budget.used


@proves(
    "authentication.groups.project-ice",
    "authentication.groups.project-sea",
    "budgets.groups.project-*.together.core_hours",
    "budgets.grace",
)
@pytest.mark.parametrize(("project", "members", "others"), [("ice", ICE, SEA), ("sea", SEA, ICE)])
def test_a_project_has_five_hundred_core_hours(
    people: People, simulated: SimulatedGateway, project: str, members: tuple[str, str], others: tuple[str, str]
) -> None:
    """Spent by one it is spent for all of the project, and no other; what runs ends an hour later, with a reason."""
    student, member = members
    ours, theirs = people.ours(member), people.theirs(member)
    running = ours.submit()
    simulated.turn()
    assert scaled(ours, running, 100) == ""
    simulated.turn()
    simulated.pass_time(2.4 * HOUR)  # 480 core-hours
    people.theirs(student).stop_cluster(people.theirs(student).submit())
    assert ours.get_cluster(running).ending is None

    simulated.pass_time(0.15 * HOUR)
    scope, amount, used = budget_of(people.ours(student))
    assert (scope, amount) == (f"group:project-{project}", 500)
    assert 500 < used < 515
    words = f"the budget is spent: 500 core-hours in 30 days for the group project-{project} together, of which 5"
    for user in members:
        for error, submit in (
            (GatewayClusterError, people.ours(user).submit),
            (OfficialClusterError, people.theirs(user).submit),
        ):
            with pytest.raises(error, match=words):
                submit()
    scaled(theirs, running, 1)
    assert words in scaled(theirs, running, 2)
    ending = ours.get_cluster(running).ending
    assert ending is not None
    assert (ending.code, ending.announced) == ("budget", True)
    for user in others:
        people.ours(user).stop_cluster(people.ours(user).submit())

    simulated.pass_time(0.95 * HOUR)
    assert ours.get_cluster(running).status is ClusterStatus.RUNNING
    simulated.pass_time(0.1 * HOUR)
    report = ours.get_cluster(running)
    assert (report.status, report.reason["code"]) == (ClusterStatus.STOPPED, "budget")
    assert f"500 core-hours in 30 days for the group project-{project} together" in report.reason["message"]
    with pytest.raises(OfficialClusterError, match="was stopped: Stopped, since a budget is spent: 500 core-hours in"):
        theirs.connect(running)


@proves("budgets.days")
def test_what_was_used_a_month_ago_no_longer_counts(people: People, simulated: SimulatedGateway) -> None:
    """The window rolls, day by day in UTC: the thirtieth day after it, there is something left again."""
    kim, sam = people.ours("kim"), people.theirs("sam")
    simulated.clock.now -= simulated.clock.now % DAY
    running = kim.submit()
    simulated.turn()
    scaled(kim, running, 100)
    simulated.turn()
    simulated.pass_time(3 * HOUR)
    kim.stop_cluster(running)
    simulated.turn()
    assert 600 < budget_of(kim)[2] < 610
    simulated.pass_time(28.9 * DAY)
    with pytest.raises(OfficialClusterError, match="the budget is spent"):
        sam.submit()

    simulated.pass_time(1 * DAY)
    sam.stop_cluster(sam.submit())


# -- ends --------------------------------------------------------------------------------------------------------------


@proves("ends.idle")
def test_a_cluster_ends_when_nothing_ran_on_it_for_half_an_hour(people: People, simulated: SimulatedGateway) -> None:
    """Announced before, and with a reason that both clients show; one on which something runs goes on."""
    ours, theirs = people.ours("lee"), people.theirs("lee")
    idle, busy = theirs.submit(), ours.submit()
    simulated.turn()
    simulated.rest(idle)

    simulated.pass_time(24 * 60)
    assert not ours.get_cluster(idle).ending.announced
    simulated.pass_time(2 * 60)
    assert ours.get_cluster(idle).ending.announced
    simulated.pass_time(5 * 60)

    report = ours.get_cluster(idle)
    assert (report.status, report.reason["code"]) == (ClusterStatus.STOPPED, "idle")
    assert "nothing ran on it for 30 min" in report.reason["message"]
    with pytest.raises(OfficialClusterError, match="was stopped: Stopped, since nothing ran on it for 30 min"):
        theirs.connect(idle)
    assert ours.get_cluster(busy).status is ClusterStatus.RUNNING


# -- with real clusters ------------------------------------------------------------------------------------------------

EXPLAINED = """
Groups:
  students: sam, sue
  staff: kim, lee
  project-ice: sam, kim
  project-sea: sue, lee
Users may choose:
  image: choice, default Geosciences (one of registry.example.org/geo:2026.11 (Geosciences), \
registry.example.org/learn:2026.11 (Machine learning)); recorded, and the backend local does nothing with it
  worker_memory: float, fixed at 10 GB: shown, and nobody can change it
  worker_cores: integer, default 2 (1 to 4)
At most may be held at a time:
  2 clusters, 20 cores for each member of the group students
  200 cores for each member of the group staff
  nothing else is limited, but by what the backend can carry
  beyond, a new cluster is refused, and a size becomes what fits
At most may be used:
  500 core-hours in 30 days for each group like project-* together
  counted is what ran today and the 29 days before
  when one is spent there is nothing new, and what runs ends 1 h later, with a reason
A cluster ends by itself:
  when nothing has run on it for 30 min, announced 5 min before
  when all its clients have been gone for 5 min, and nothing runs
  at no age
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The platform on this machine."""
    with serving(tmp_path_factory.mktemp("platform") / "gateway", POLICY.read_text()) as gateway:
        yield gateway


def test_the_check_explains_it(real: GatewayProcess) -> None:
    """Who, what, how much, when; and there is nothing in it to doubt."""
    done = real.run_cli("config", "check", "--config", "tidegate.yaml")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "tidegate.yaml: no mistakes found." + EXPLAINED
    assert len(POLICY.read_text().splitlines()) < 60


def test_console_and_commands_show_the_form(real: GatewayProcess) -> None:
    """What may be chosen and what is fixed, as a notebook shows it."""
    listed = real.run_cli("options")
    with httpx.Client(follow_redirects=True, headers={"User-Agent": "Mozilla/5.0"}, timeout=60) as browser:
        page = html.unescape(browser.get(real.login_url).text + browser.get(f"{real.url}/options").text)

    assert listed.returncode == 0, listed.stderr
    for words in ("Geosciences", "Machine learning", "10 GB", "fixed by the administrator of this gateway", "1 to 4"):
        assert words in listed.stdout
        assert words in page


def test_it_serves_with_real_clusters(real: GatewayProcess) -> None:
    """Workers have their 10 GB and two cores in both clients; the third cluster of a student is refused."""
    if psutil.virtual_memory().total < 11 * 10**9:
        pytest.skip("needs a machine with room for a worker of 10 GB")
    with ExitStack() as stack:
        people = People(real, stack)
        ours = stack.enter_context(people.ours("sam").new_cluster())
        theirs = stack.enter_context(people.theirs("sam").new_cluster(image="Machine learning"))
        for cluster in (ours, theirs):
            cluster.scale(1)
            with cluster.get_client(set_as_default=False) as client:
                client.wait_for_workers(1, timeout=60)
                (worker,) = client.scheduler_info(n_workers=-1)["workers"].values()
                assert (worker["memory_limit"], worker["nthreads"]) == (10 * 10**9, 2)
            cluster.scale(0)
            eventually_sync(lambda cluster=cluster: not cluster.scheduler_info["workers"], 60)
        with pytest.raises(OfficialClusterError, match="the limit is 2 clusters for each member of the group students"):
            people.theirs("sam").new_cluster()
        with pytest.raises(GatewayClusterError, match="the limit is 2 clusters for each member of the group students"):
            people.ours("sam").new_cluster()


# -- no line without a test --------------------------------------------------------------------------------------------


def leaves(section: Any, at: str = "") -> Iterator[str]:
    """Yield the place of each setting of a file."""
    if not isinstance(section, dict):
        yield at
        return
    for key, value in section.items():
        yield from leaves(value, f"{at}.{key}" if at else key)


def test_every_line_has_a_test() -> None:
    """Whoever adds one to the file adds a test; and no test is for a line that is not there."""
    assert set(leaves(yaml.safe_load(POLICY.read_text()))) == set(PROVEN)
