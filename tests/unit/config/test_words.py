"""What ``tidegate config check`` says of a configuration that is right."""

from __future__ import annotations

from pathlib import Path

from tests.unit.config.test_limits import write
from tests.unit.config.test_offer import OWN, PROFILES
from tidegate.config.load import load
from tidegate.config.offer import offered
from tidegate.config.words import describe

UNDERSTOOD = ("profile", "worker_cores", "worker_memory", "environment", "variables", "idle_timeout", "lifetime")


def words(folder: Path, text: str) -> list[str]:
    """Return the lines for a configuration."""
    loaded = load(write(folder, text))
    return list(describe(loaded, offered(loaded, OWN, knows={"image", "variables"}), UNDERSTOOD))


def test_it_tells_what_whom_is_offered(tmp_path: Path) -> None:
    """A line for each option, group and profile; secrets stay out of it."""
    text = PROFILES + "  variables: {default: {KEY: geheim}}\n"
    lines = words(tmp_path, text.replace("maximum: 4}", "maximum: 4, by_group: {x-*: {fixed: true}}}"))

    assert "  worker_cores: integer, default 2 (1 to 4)" in lines
    assert "    for x-*: fixed at 2: shown, and nobody can change it" in lines
    assert "  worker_memory: float, fixed at 2 GiB: shown, and nobody can change it" in lines
    assert "  node: string, hidden, always cpu; recorded, and the backend local does nothing with it" in lines
    assert "  profile large: worker_cores 16, worker_memory 8 GiB" in lines
    assert "  profile gpu: node gpu, for staff" in lines
    assert "geheim" not in "".join(lines)


def test_it_tells_what_holds_by_default(tmp_path: Path) -> None:
    """An administrator who wrote nothing reads that nothing is bounded, and when clusters end all the same."""
    lines = words(tmp_path, "")

    assert [line for line in lines if not line.startswith(" ")] == [
        "Users may choose:",
        "At most may be held at a time:",
        "A cluster ends by itself:",
    ]
    assert "  what the backend can carry: no limits are set" in lines
    assert "  when nothing has run on it for 30 min, announced 5 min before" in lines


def test_it_tells_how_much_and_when(tmp_path: Path) -> None:
    """Limits by whom they are for, what happens beyond, prices, budgets, and every end."""
    lines = words(
        tmp_path,
        """
authentication: {groups: {staff: [lee], empty: []}, admins: [root], admin_groups: [ops]}
limits: {when_full: wait, user: {clusters: 1}, groups: {"p-*": {together: {cores: 9, memory: 1 TiB}}}}
prices: {core_hour: 0.04, currency: EUR}
budgets: {days: 1, grace: 10 min, users: {lee: {cost: 5}}}
ends: {idle: never, no_client: never, lifetime: 8 h, warn: 0, hub_server_stopped: true, hub_user_removed: true}
options: {lifetime: {}, worker_cores: {}}
""",
    )

    assert lines[:4] == ["Groups:", "  staff: lee", "  empty: nobody yet", "  administrators: root, members of ops"]
    assert lines[7:] == [
        "At most may be held at a time:",
        "  1 cluster for each user",
        "  9 cores, 1 TiB of memory for each group like p-* together",
        "  nothing else is limited, but by what the backend can carry",
        "  beyond, a new cluster waits in line, and a size becomes what fits",
        "It costs:",
        "  0.04 EUR for each core-hour",
        "At most may be used:",
        "  5 EUR in 1 day for lee",
        "  counted is what ran today",
        "  when one is spent there is nothing new, and what runs ends 10 min later, with a reason",
        "A cluster ends by itself:",
        "  never for being idle",
        "  after 8 h, whatever runs on it, unless its option lifetime says something else",
        "  when the notebook server of the JupyterHub has stopped from which it was made, whatever runs on it",
        "  when the JupyterHub no longer has its owner",
    ]
