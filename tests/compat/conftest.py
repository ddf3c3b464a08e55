"""Real schedulers, workers and clients, of the newest and of the oldest Dask that the agent must live with.

Each test gets a ``lab``: a double of the gateway in this process, and processes of Dask's own command lines beside it.
The oldest Dask has an environment of its own under ``.envs``, made once, with the oldest Python that is at hand.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.compat.lab import Lab

ROOT = Path(__file__).parents[2]
# This Dask draws circles without a radius on its profile page, which Bokeh no longer takes since 3.5 (status 500).
OLDEST = ("distributed==2024.1.0", "dask==2024.1.0", "bokeh<3.5", "pandas", "numpy")


def oldest_python() -> str:
    """Return the path of Python 3.9 where pyenv has one (the oldest that the agent promises), else of our own."""
    found = sorted(Path.home().glob(".pyenv/versions/3.9.*/bin/python"))
    return str(found[-1]) if found else sys.executable


@pytest.fixture(scope="session")
def oldest_dask() -> Path:
    """Return the Python of an environment with distributed 2024.1.0; made when it is not there."""
    folder = ROOT / ".envs" / "distributed-2024.1"
    python, complete = folder / "bin" / "python", folder / "complete"
    recipe = "\n".join([oldest_python(), *OLDEST])
    folder.parent.mkdir(exist_ok=True)
    with open(folder.parent / "distributed-2024.1.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists() or complete.read_text() != recipe:
            uv = str(Path(sys.executable).with_name("uv"))
            subprocess.run([uv, "venv", "-q", "--clear", "--python", oldest_python(), str(folder)], check=True)
            subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *OLDEST], check=True)
            complete.write_text(recipe)
    return python


@pytest.fixture(params=["newest", pytest.param("2024.1", marks=pytest.mark.compat)])
def python(request: pytest.FixtureRequest) -> Path:
    """Return the Python whose Dask the test uses."""
    if request.param == "newest":
        return Path(sys.executable)
    found: Path = request.getfixturevalue("oldest_dask")
    return found


@pytest.fixture
async def lab(python: Path, tmp_path: Path) -> AsyncIterator[Lab]:
    """Give a gateway's double and room for processes; afterwards they are gone, and no log shows a secret."""
    lab = Lab(python, tmp_path)
    await lab.gateway.start()
    try:
        yield lab
    finally:
        await lab.close()
    lab.check_logs()
