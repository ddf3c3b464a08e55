"""What the machine offers, read from ``/proc`` and control groups of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidegate.backends.local import machine

PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Give a folder that looks like ``/proc``."""
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "self" / "cgroup").write_text("")
    (folder / "self" / "mountinfo").write_text("")
    return folder


def mount(proc: Path, kind: str, membership: str, *, root: str = "/", options: str = "rw") -> Path:
    """Add a hierarchy of control groups, and say in which of its groups we are."""
    point = proc.parent / f"{kind}{options.replace(',', '-')}"
    point.mkdir()
    with (proc / "self" / "mountinfo").open("a") as file:
        file.write(f"30 23 0:26 {root} {point} rw,nosuid shared:9 - {kind} none {options}\n")
    with (proc / "self" / "cgroup").open("a") as file:
        file.write(membership + "\n")
    return point


def test_without_control_groups_it_is_the_machines_memory(proc: Path) -> None:
    """No limit, no mount, no file: then what the kernel counts."""
    assert machine.memory(proc) == PHYSICAL
    assert machine.memory(proc / "missing") == PHYSICAL
    assert list(machine.group_folders("cgroup2", "", proc)) == []


def test_a_limit_of_version_2_counts_wherever_it_is_set_above_us(proc: Path) -> None:
    """The smallest limit on the way up to the mount is the one that holds."""
    point = mount(proc, "cgroup2", "0::/user.slice/session")
    group = point / "user.slice" / "session"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text("1073741824\n")
    (point / "memory.max").write_text("max\n")
    assert machine.memory(proc) == 2**30


def test_a_limit_of_version_1_counts(proc: Path) -> None:
    """The memory controller of version 1 has a hierarchy of its own; no limit there is a huge number."""
    mount(proc, "cgroup", "3:cpu:/", options="rw,cpu")
    point = mount(proc, "cgroup", "4:memory:/docker/abc", root="/docker/abc", options="rw,memory")
    (point / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert machine.memory(proc) == PHYSICAL
    (point / "memory.limit_in_bytes").write_text("536870912\n")
    assert machine.memory(proc) == 2**29


def test_our_own_group_is_found_in_each_hierarchy(proc: Path) -> None:
    """By its controller in version 1, without one in version 2."""
    both = mount(proc, "cgroup", "3:cpu,cpuacct:/system", options="rw,cpu,cpuacct")
    (both / "system").mkdir()
    two = mount(proc, "cgroup2", "0::/service")
    (two / "service").mkdir()
    assert list(machine.group_folders("cgroup", "cpu", proc)) == [both / "system"]
    assert list(machine.group_folders("cgroup2", "", proc)) == [two / "service"]
    assert list(machine.group_folders("cgroup", "memory", proc)) == []
