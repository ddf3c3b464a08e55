"""Parts of a policy that cannot be meant together, or probably are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.config.test_limits import write
from tests.unit.config.test_offer import OWN
from tidegate.config.contradictions import check_policy, doubts
from tidegate.config.load import BadConfig, load
from tidegate.config.offer import offered

FIXED = "options:\n  worker_memory: {default: 10 GB, unit: GB, fixed: true}\n  worker_cores: {minimum: 2, default: 4}\n"


def check(folder: Path, text: str) -> list[str]:
    """Return the contradictions of a configuration."""
    loaded = load(write(folder, text))
    try:
        check_policy(loaded, offered(loaded, OWN, knows={"image"}))
    except BadConfig as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "limits:\n  cluster: {memory: 8 GiB}",
            "tidegate.yaml:5: limits.cluster.memory is 8 GiB, and the smallest worker that options.worker_memory "
            "allows has 9.31323 GiB (tidegate.yaml:2): none would ever fit",
        ),
        ("limits:\n  user: {cores: 1}", "tidegate.yaml:5: limits.user.cores is 1, and the smallest worker that opt"),
        ("limits:\n  users: {al: {cores: 1.5}}", "tidegate.yaml:5: limits.users.al.cores is 1.5, and the smallest"),
        ("limits:\n  groups:\n    g:\n      each: {cores: 1}", "tidegate.yaml:7: limits.groups.g.each.cores is 1, "),
        ("limits:\n  groups: {g: {together: {cores: 1}}}", "tidegate.yaml:5: limits.groups.g.together.cores is 1, "),
        ("limits:\n  gateway: {memory: 9 GB}", "tidegate.yaml:5: limits.gateway.memory is 8.3819 GiB, and the small"),
        ("budgets:\n  user: {cost: 5}", "tidegate.yaml:5: budgets.user.cost is 5, and nothing costs anything: set pri"),
        ("budgets:\n  groups:\n    p-*:\n      together: {cost: 5}", "tidegate.yaml:7: budgets.groups.p-*.together.c"),
        ("  minimum: {default: 5}\n  maximum: {default: 3}", "tidegate.yaml:4: options.minimum.default is 5, and that"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    """The setting, what it contradicts, and what comes of it."""
    (found,) = check(tmp_path, FIXED + text)

    assert found.startswith(problem)


@pytest.mark.parametrize(
    "text",
    [
        "limits: {cluster: {memory: 10 GB, cores: 2}, user: {cores: 0}, gateway: {memory: unlimited}}",
        "prices: {gpu_hour: 1}\nbudgets: {user: {cost: 5}}",
        "budgets: {user: {core_hours: 5}}",
        "profiles: {small: {values: {worker_memory: 1}}}\nlimits: {user: {memory: 1 GB}}",
        "options_hook: rules:choose\nlimits: {user: {memory: 1 GB}}",
        "  maximum: {default: 0}\n  minimum: {default: 5}",
    ],
    ids=["just fits, and nothing at all", "priced", "of hours", "a profile is smaller", "a hook decides", "no bounds"],
)
def test_what_can_be_meant_is_not(tmp_path: Path, text: str) -> None:
    """Nobody is kept from a policy that works."""
    assert check(tmp_path, FIXED + text) == []


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        (
            "options:\n  worker_cores:\n    by_group:\n      studnets: {maximum: 2}",
            "tidegate.yaml:5: options.worker_cores.by_group.studnets is for a group that nobody is known to be in: "
            "studnets; did you mean students?",
        ),
        ("profiles:\n  p: {groups: [studnets]}", "tidegate.yaml:3: profiles.p.groups.0 is for a group that nobody is"),
        ("sharing:\n  groups: [students, studnets]", "tidegate.yaml:3: sharing.groups.1 is for a group that nobody is"),
        ("limits:\n  groups: {project-*: {}}", "tidegate.yaml:3: limits.groups.project-* is for a group that nobody"),
        ("budgets:\n  groups: {others: {}}", "tidegate.yaml:3: budgets.groups.others is for a group that nobody is k"),
        ("limits:\n  users: {a*: {cores: 1}}", "tidegate.yaml:3: limits.users.a* means a user of exactly this name"),
        (
            "options:\n  worker_cores:\n    by_group: {s*: {maximum: 4}, students: {maximum: 2}}",
            "tidegate.yaml:4: options.worker_cores.by_group.students never counts: whoever is in it is in one like s*",
        ),
        (
            "limits:\n  groups:\n    students: {each: {cores: 9}, together: {cores: 5}}",
            "tidegate.yaml:4: limits.groups.students.each.cores is 9, and only 5 cores are for the group students tog",
        ),
        ("limits:\n  user: {cores: 9}\n  gateway: {cores: 5}", "tidegate.yaml:3: limits.user.cores is 9, and only 5"),
        (
            "budgets: {user: {core_hours: 9}}\noptions:\n  scheduler_cores: {default: 2}\n  worker_cores:",
            "tidegate.yaml:4: options.scheduler_cores has no maximum: with one number a user can spend a whole budget",
        ),
        (
            "budgets: {user: {cost: 9}}\noptions:\n  ram: {target: scheduler_memory}\n  scheduler_cores: {maximum: 2}",
            "options.ram has no maximum",
        ),
        ("ends:\n  lifetime: 20 min", "ends.idle never comes: ends.lifetime is 20 min, and over before"),
    ],
)
def test_what_is_probably_not_meant_is_said(tmp_path: Path, text: str, doubt: str) -> None:
    """The gateway starts with it all the same."""
    (found,) = doubts(load(write(tmp_path, f"authentication: {{groups: {{students: [al]}}}}\n{text}\n")))

    assert doubt in found


def test_groups_may_come_with_a_login(tmp_path: Path) -> None:
    """Then only what is nearly the name of a known one is doubted."""
    text = "authentication: {logins: {jupyterhub: {}}, groups: {students: [al]}}\n"
    text += "limits: {groups: {hub-admins: {}, studnets: {}}}\n"

    (found,) = doubts(load(write(tmp_path, text)))
    assert "limits.groups.studnets" in found
