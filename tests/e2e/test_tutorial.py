"""The documentation is true: its cells run as they stand, in either client, and print what it says that they print."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.e2e.gateways import GatewayProcess
from tests.support import eventually_sync
from tidegate import Gateway, TokenAuth

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
README = (ROOT / "README.md").read_text()

IMPORT = "from tidegate import Gateway"

RunNotebook = Callable[[str], str]

pytestmark = pytest.mark.timeout(240)


def cells(page: str, language: str = "python") -> list[str]:
    """Return what stands in the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


@pytest.fixture(params=["tidegate", "dask_gateway"])
def run_notebook(request: pytest.FixtureRequest, gateway: GatewayProcess) -> RunNotebook:
    """Return what runs a page's cells in one Python, with one of the clients, and returns what they printed."""

    def run(page: str) -> str:
        code = "\n".join(cells(page))
        assert code.count(IMPORT) == 1
        notebook = gateway.home / "notebook.py"
        notebook.write_text(code.replace(IMPORT, f"from {request.param} import Gateway"))
        # By its path, so that a traceback shows the lines.
        ran = gateway.run_python(f"import runpy; runpy.run_path({str(notebook)!r}, run_name='__main__')", timeout=200)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return run


def test_the_tutorial_runs_and_prints_what_it_says(run_notebook: RunNotebook, gateway: GatewayProcess) -> None:
    """From top to bottom in one notebook; every result that the page shows appears, in its order."""
    printed = run_notebook(TUTORIAL)

    position = 0
    for result in cells(TUTORIAL, "text"):
        assert result in printed[position:]
        position = printed.index(result, position) + len(result)
    assert position, "the page shows no results"
    assert f"{gateway.url}/clusters/" in printed
    assert "still there:" not in printed, "the page shuts down what it made"


def test_the_first_lines_of_the_readme_run(run_notebook: RunNotebook, gateway: GatewayProcess) -> None:
    """They forget to shut down, as people do: the cluster ends with its Python."""
    run_notebook(README)

    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user:
        eventually_sync(lambda: user.list_clusters() == [], 30)


def test_the_dashboards_that_the_tutorial_names_are_there(gateway: GatewayProcess) -> None:
    """Each in its one line, for its owner."""
    pages = re.findall(r"^\* `([a-z-]+)`: ", TUTORIAL, re.MULTILINE)
    assert len(pages) >= 7

    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user, user.new_cluster() as cluster:
        below = cluster.dashboard_link.removesuffix("status")
        found = {page: httpx.get(below + page, headers=gateway.headers, timeout=60) for page in pages}

    assert {page: answer.status_code for page, answer in found.items()} == dict.fromkeys(pages, 200)
    assert all("bokeh" in answer.text.lower() for answer in found.values())
