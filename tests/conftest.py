"""What holds for all tests: nothing of the user's own Dask configuration is read.

Fixtures live beside the tests that use them; those of a whole running gateway are in ``tests/e2e/conftest.py``.
"""

from __future__ import annotations

import os

import dask.config

# A developer's own gateway must not be found: neither in files nor in the environment.
for _name in [name for name in os.environ if name.upper().startswith(("DASK_TIDEGATE_", "DASK_GATEWAY_"))]:
    del os.environ[_name]
dask.config.paths.clear()
dask.config.refresh()
