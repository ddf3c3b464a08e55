"""What holds for all tests: nothing of the user's own Dask configuration is read.

``--hypothesis-profile=long`` tries twenty times as many examples: ``make fuzz`` does.

Fixtures live beside the tests that use them; those of a whole running gateway are in ``tests/e2e/conftest.py``.
"""

from __future__ import annotations

import os

import dask.config
import hypothesis

# A developer's own gateway must not be found: neither in files nor in the environment.
for _name in [name for name in os.environ if name.upper().startswith(("DASK_TIDEGATE_", "DASK_GATEWAY_"))]:
    del os.environ[_name]
dask.config.paths.clear()
dask.config.refresh()

hypothesis.settings.register_profile("long", max_examples=2_000, deadline=None)
