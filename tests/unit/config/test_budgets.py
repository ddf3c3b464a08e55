"""Budgets and prices as an administrator writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.config.test_limits import write
from tidegate.config.load import BadConfig, load
from tidegate.model.prices import FREE, Prices

PLATFORM = """
prices: {core_hour: 0.04, gib_hour: 0.005, gpu_hour: 1.2, currency: EUR}
budgets:
  days: 7
  grace: 30 min
  user: {core_hours: 200, cost: 1000.5}
  users:
    alice: {gpu_hours: 3}
  groups:
    ice: {each: {gib_hours: 50}, together: {core_hours: 5000}}
"""


def test_every_budget_is_read(tmp_path: Path) -> None:
    """For whom, what, how much, within which window: as ``tidegate config check`` says it."""
    settings = load(write(tmp_path, PLATFORM)).settings
    budgets = settings.budgets.budgets(settings.prices.currency)

    assert [budget.words for budget in budgets] == [
        "200 core-hours in 7 days for each user",
        "1,000.5 EUR in 7 days for each user",
        "3 GPU-hours in 7 days for alice",
        "50 GiB-hours in 7 days for each member of the group ice",
        "5,000 core-hours in 7 days for the group ice together",
    ]
    assert (budgets.days, budgets.grace) == (7, 1800)
    assert settings.prices.prices() == Prices(0.04, 0.005, 1.2)


def test_by_default_nothing_costs_and_nothing_is_bounded(tmp_path: Path) -> None:
    """There are no budgets, and no prices."""
    settings = load(write(tmp_path, "{}")).settings
    assert not settings.budgets.budgets("")
    assert settings.prices.prices() == FREE


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("budgets: {user: {core_hours: -1}}", "core_hours"),
        ("budgets: {user: {cores: 1}}", "cores"),
        ("budgets: {days: 0}", "days"),
        ("budgets: {grace: never}", "grace"),
        ("budgets: {groups: {' ice': {}}}", "ice"),
        ("prices: {core_hour: -0.1}", "core_hour"),
        ("prices: {core_hour: .inf}", "core_hour"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path, text: str, where: str) -> None:
    """With the place in the file."""
    with pytest.raises(BadConfig, match=where):
        load(write(tmp_path, text))
