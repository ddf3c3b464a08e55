"""How many threads linear algebra uses, set in a process in which NumPy was loaded before.

Its libraries read ``OPENBLAS_NUM_THREADS`` and the like when they are loaded. A worker is forked from where they are
loaded already, so it has to tell them.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Callable, Sequence

SETTERS = {
    "openblas": tuple(
        f"{prefix}openblas_set_num_threads{suffix}" for prefix in ("", "scipy_") for suffix in ("", "64_", "_64")
    ),
    "mkl_rt": ("MKL_Set_Num_Threads",),
    "blis": ("bli_thread_set_num_threads",),
}
"""What the files of these libraries are named like, and their functions: builds differ in what they add to the name."""


def set_threads(count: int) -> None:
    """Have linear algebra use ``count`` threads at the most."""
    for setter in find_setters():
        setter(count)
    if "numexpr" in sys.modules:
        with contextlib.suppress(ValueError):  # It was built for fewer.
            sys.modules["numexpr"].set_num_threads(count)


@functools.lru_cache(maxsize=1)
def find_setters() -> Sequence[Callable[[int], object]]:
    """Return the functions that set it, of all libraries that are loaded at the first call.

    To look for them takes a millisecond, which what is forked later need not spend. What is loaded later reads the
    environment, which is right by then.
    """
    with open("/proc/self/maps") as file:
        paths = {line.split(maxsplit=5)[5].rstrip("\n") for line in file if ".so" in line}
    found: list[Callable[[int], object]] = []
    for path in sorted(paths):
        for name, functions in SETTERS.items():
            if name in os.path.basename(path):
                with contextlib.suppress(OSError):
                    library = ctypes.CDLL(path)
                    found += [getattr(library, function) for function in functions if hasattr(library, function)]
    return found
