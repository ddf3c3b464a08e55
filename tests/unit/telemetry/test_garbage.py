"""Cyclic garbage: what is there stays out of the way, and what comes later is still collected."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
import weakref
from tidegate.telemetry import garbage

class Node:
    pass

garbage.settle()
assert gc.get_freeze_count() > 1000
node = Node()
node.itself = node
gone = weakref.ref(node)
del node
kept = []
while gone() is not None:
    assert len(kept) < 3 * garbage.YOUNG_OBJECTS
    kept.append([])
assert len(kept) > 700
"""


def test_new_garbage_is_collected_and_old_objects_are_left_alone():
    """In a process of its own: it is for good."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
