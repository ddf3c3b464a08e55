"""Which versions fit, in words."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from tidegate.client.versions import PACKAGES, find_problems, local_versions, own_version


@pytest.mark.parametrize(
    ("mine", "theirs", "works"),
    [
        ("2026.8.0", "2026.8.0", True),
        ("2026.8.0", "2025.4.0", True),
        ("2025.7.0", "2026.8.0", True),
        ("2026.8.0", "2025.3.1", False),
        ("2026.8.0", "2024.1.0", False),
        ("2024.1.0", "2026.8.0", False),
        ("2024.5.2", "2024.5.1", False),
        ("2024.5.1", "2024.5.2", False),
        ("2025.3.0", "2025.2.0", False),
        ("2025.2.0", "2025.3.0", False),
        ("2024.11.0", "2024.10.0", False),  # a newer client
        ("2024.10.0", "2024.11.0", True),  # an older one
        ("2024.10.0", "2024.6.2", False),
        ("2024.6.2", "2024.10.0", True),
        ("2024.8.0+3.gabc", "2024.9.1", True),
    ],
)
def test_pairs_that_cannot_talk_are_known(mine: str, theirs: str, works: bool) -> None:
    """Each of these pairs was run."""
    broken, _ = find_problems({"distributed": mine}, {"distributed": theirs})

    assert (broken is None) is works
    if broken:
        assert mine in broken
        assert theirs in broken


def test_loaded_modules_say_what_is_installed() -> None:
    """They are asked because it is quick; what is installed is the truth."""
    assert {package: local_versions()[package] for package in PACKAGES} == {p: version(p) for p in PACKAGES}
    assert own_version() == version("tidegate")


def test_equal_versions_are_nothing_to_talk_about() -> None:
    """And what one side does not tell is not compared."""
    mine = local_versions()

    assert find_problems(mine, mine) == (None, None)
    assert find_problems(mine, {}) == (None, None)
    assert find_problems(mine, {"python": "strange", "distributed": ""}) == (None, None)


def test_what_may_not_work_is_said_with_both_versions() -> None:
    """Another minor Python cannot always load functions; another patch level can."""
    mine = {"python": "3.11.7", "distributed": "2026.8.0", "cloudpickle": "3.1.2", "msgpack": "1.2.4"}

    assert find_problems(mine, mine | {"python": "3.11.2", "cloudpickle": "3.0.0"}) == (None, None)
    assert find_problems(mine, mine | {"python": "3.12.1", "distributed": "2026.7.0", "cloudpickle": "2.2.0"})[1] == (
        "Python is 3.11.7 here and 3.12.1 in the cluster; distributed is 2026.8.0 here and 2026.7.0 in the cluster; "
        "cloudpickle is 3.1.2 here and 2.2.0 in the cluster"
    )
