"""Gathering memory into huge pages: in a process of its own, for it lasts as long as the process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

GATHER = """
import hashlib
from tidegate.backends.local.keeper import pages

def huge():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("AnonHugePages:"))

kept = [bytes([n % 256]) * 100_000 for n in range(400)]  # 40 MB
before = huge()
pages.gather()
print(huge() - before, all(text == bytes([n % 256]) * 100_000 for n, text in enumerate(kept)))
"""

KERNEL = tuple(int(part) for part in platform.release().split(".")[:2])


@pytest.mark.skipif(
    KERNEL < (6, 1) or not os.path.exists("/sys/kernel/mm/transparent_hugepage"), reason="this kernel cannot do it"
)
def test_what_was_written_lies_in_huge_pages_and_is_the_same() -> None:
    """Most of 40 MB; the rest are the ends, in which no huge page fits."""
    done = subprocess.run([sys.executable, "-c", GATHER], capture_output=True, text=True, timeout=60, check=True)

    kilobytes, is_same = done.stdout.split()
    assert int(kilobytes) > 20_000
    assert is_same == "True"
