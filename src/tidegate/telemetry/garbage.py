"""Python's collector of cyclic garbage, in a process that serves requests until its end.

What was made at the start stays: it is never looked through again. Requests leave few cycles, and the default looks for
them so often (after 700 new objects, which is a dozen requests) that it takes a twelfth of a proxy's time.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 5_000
"""New objects between two looks for cycles among them: some 2 MB."""


def settle() -> None:
    """Take everything that is there for permanent, and look for garbage less often from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
