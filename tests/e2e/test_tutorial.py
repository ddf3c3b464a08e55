"""The tutorial is true: its cells run as they stand, in either client."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.gateways import GatewayProcess

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
CELLS = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("package", ["tidegate", "dask_gateway"])
def test_the_cells_of_the_tutorial_run_verbatim(gateway: GatewayProcess, package: str) -> None:
    """One after the other, in one notebook, without arguments; the results are those of pandas and NumPy."""
    assert len(CELLS) == 7
    first = CELLS[0].replace("from tidegate import", f"from {package} import")

    ran = gateway.run_python("\n".join([first, *CELLS[1:]]), timeout=200)

    assert ran.returncode == 0, ran.stderr
    assert re.search(r"^F9 +20\.2$", ran.stdout, re.MULTILINE), "the delays of Frontier, as pandas has them"
    assert "\n114.599" in ran.stdout, "the brightness of the image, as NumPy has it"
    assert "\n0.5\n" in ran.stdout
    assert f"{gateway.url}/clusters/" in ran.stdout
