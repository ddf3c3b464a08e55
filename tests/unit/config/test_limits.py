"""Limits as an administrator writes them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tidegate.config.explain import explain
from tidegate.config.load import BadConfig, load

PLATFORM = """
limits:
  cluster: {workers: 50, memory: 256 GiB}
  user: {clusters: 4, cores: 10}
  users:
    alice: {cores: unlimited}
  groups:
    students:
      each: {clusters: 2, cores: 20}
      together: {cores: 200, gpus: 4}
  gateway: {memory: 1 TiB}
"""


def write(folder: Path, text: str) -> Path:
    """Write a configuration."""
    file = folder / "tidegate.yaml"
    file.write_text(text)
    return file


def test_every_limit_becomes_a_rule(tmp_path: Path) -> None:
    """For whom, what, how much: as ``tidegate config check`` says it."""
    rules = load(write(tmp_path, PLATFORM)).settings.limits.rules()

    assert {(str(rule.subject), rule.resource.value): rule.amount for rule in rules} == {
        ("cluster", "workers"): 50,
        ("cluster", "memory"): 256 * 2**30,
        ("user", "clusters"): 4,
        ("user", "cores"): 10,
        ("user:alice", "cores"): math.inf,
        ("each:students", "clusters"): 2,
        ("each:students", "cores"): 20,
        ("group:students", "cores"): 200,
        ("group:students", "gpus"): 4,
        ("gateway", "memory"): 2**40,
    }
    assert [rule.words for rule in rules][:4] == [
        "50 workers for one cluster",
        "256 GiB of memory for one cluster",
        "4 clusters for each user",
        "10 cores for each user",
    ]


def test_the_explanation_of_limits_can_be_used_as_a_file(tmp_path: Path) -> None:
    """Reading it back gives the same rules, unlimited ones and names among them."""
    first = load(write(tmp_path, PLATFORM))
    again = write(tmp_path, explain(first))

    assert list(load(again).settings.limits.rules()) == list(first.settings.limits.rules())


def test_whoever_finds_no_room_may_wait(tmp_path: Path) -> None:
    """Or is refused, which is the default; groups have weights in the line."""
    assert not load(write(tmp_path, PLATFORM)).settings.limits.rules().waits
    text = "limits: {when_full: wait, groups: {staff: {weight: 2}, students: {}}}\n"

    rules = load(write(tmp_path, text)).settings.limits.rules()

    assert rules.waits
    assert rules.weights == {"staff": 2, "students": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user: {clusters: 1.5}", "cannot set limits.user.clusters to 1.5: write a whole number from 0 on, or unl"),
        ("gateway: {memory: 10 potatoes}", "to '10 potatoes': write it with a unit, such as 64 GiB, or unlimited"),
        ("groups: {students: {all: {cores: 4}}}", "limits.groups.students.all is not a setting; "),
        ("users: {' ': {cores: 4}}", "a name is 1 to 255 printable characters"),
        ("cluster: {clusters: 4}", "limits.cluster.clusters is not a setting"),
    ],
)
def test_a_mistake_is_said_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    """Which setting, which value, which rule."""
    with pytest.raises(BadConfig) as caught:
        load(write(tmp_path, f"limits:\n  {text}\n"))

    assert words in caught.value.problems[0]
    assert "tidegate.yaml:2" in caught.value.problems[0]
