"""What importing the client costs, and what it must not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Jinja is not among them: distributed renders its own displays with it.
SERVER_ONLY = ("pydantic", "fastapi", "uvicorn", "sqlalchemy", "cryptography")
OUR_SERVER = ("tidegate.api", "tidegate.control", "tidegate.server", "tidegate.store", "tidegate.wire.v2")


def loaded_after(code: str) -> set[str]:
    """Return the names of the modules that a fresh Python has loaded after ``code``."""
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "from tidegate import *",
        "import tidegate.client.comm, tidegate.client.widget, tidegate.client.cluster",
        "import tidegate.cli.main, tidegate.cli.clusters, tidegate.cli.tour, tidegate.cli.version",
    ],
)
def test_the_client_needs_nothing_of_the_server(code: str) -> None:
    """`pip install tidegate` is enough for a notebook and for a user's commands."""
    loaded = loaded_after(code)

    assert not loaded.intersection(SERVER_ONLY)
    assert not [name for name in loaded if name.startswith(OUR_SERVER)]


def test_importing_the_package_imports_nothing() -> None:
    """The server and the command line import it too, and must not pay for distributed."""
    assert "distributed" not in loaded_after("import tidegate; tidegate.__version__")


def test_progress_is_drawn_with_what_is_loaded_when_it_is_drawn() -> None:
    """Neither rich nor ipywidgets is loaded for a program that nobody watches."""
    assert not {"rich", "ipywidgets", "IPython"} & loaded_after("from tidegate import Gateway, GatewayCluster")


def test_every_name_of_the_package_is_there() -> None:
    """What the package offers can be imported, and completion shows it."""
    import tidegate

    assert set(tidegate.__all__) <= set(dir(tidegate))
    for name in tidegate.__all__:
        assert getattr(tidegate, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        tidegate.nonsense  # noqa: B018
