"""The official client reads the same of options and limits from this gateway as from dask-gateway's own server.

What that server answers is a fact, kept in ``answers.json``: ``python -m tests.e2e.peer.capture`` has asked the real
one (2026.3.0, which the environment of the tests does not have), by the questions of ``questions.py``, with the options
and limits of ``declared/``. Here the same questions are asked of a gateway with the same declarations.

Equal to the letter are the form, what it refuses, what is on record, and warnings, after which we say whose limit it
is. Where the server refuses, the class of the error is equal, and the words say more.

That server knows no limits of users and groups. Here whoever has reached one gets the error that this client has for
what cannot be done now (``GatewayClusterError``): ``tests/e2e/test_platform_policy.py``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from dask_gateway import BasicAuth, Gateway

from tests.e2e.gateways import serving
from tests.e2e.peer.questions import REQUESTS, SHAPES, ask_limits, ask_options

pytestmark = pytest.mark.timeout(300)

HERE = Path(__file__).parent
THEIRS: dict[str, Any] = json.loads((HERE / "answers.json").read_text())

WHOSE = {
    "small workers": " (4 cores for one cluster, set by the administrator of this gateway)",
    "workers of two cores": " (4 cores for one cluster, set by the administrator of this gateway)",
    "workers of 2 GiB": " (6 GiB of memory for one cluster, set by the administrator of this gateway)",
}
"""What follows a warning here: the limit that binds, as the administrator said it."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What this gateway answers to somebody, with these declarations."""
    folder = tmp_path_factory.mktemp("declared") / "gateway"
    (folder / "home").mkdir(parents=True)
    shutil.copy(HERE / "declared" / "rules.py", folder / "home")
    with (
        serving(folder, (HERE / "declared" / "tidegate.yaml").read_text()) as gateway,
        Gateway(gateway.url, auth=BasicAuth("alice", gateway.mint("alice"))) as user,
    ):
        answers = {"options": ask_options(user), "limits": ask_limits(user)}
    plain: dict[str, Any] = json.loads(json.dumps(answers))
    return plain


@pytest.mark.parametrize("what", ["form", "set", "after", "get", "record"])
def test_options_are_the_same(ours: dict[str, Any], what: str) -> None:
    """Fields with labels, defaults and bounds; text and widget; errors; and what a cluster has on record."""
    assert ours["options"][what] == THEIRS["options"][what]


@pytest.mark.parametrize("what", REQUESTS)
def test_what_the_server_refuses_is_refused(ours: dict[str, Any], what: str) -> None:
    """As the same error; where the words differ, they name the option and the value."""
    (mine,), (theirs,) = ours["options"]["request"][what], THEIRS["options"]["request"][what]

    assert mine.partition(":")[0] == theirs.partition(":")[0] == "ValueError"
    if what == "refused by the handler":
        assert mine == theirs
    elif what == "unknown":
        assert mine.startswith(f"{theirs}: this gateway offers worker_cores, ")
    else:
        ((name, value),) = REQUESTS[what].items()
        assert mine.startswith(f"ValueError: cannot set {name} to {value!r}: ")


@pytest.mark.parametrize("shape", SHAPES)
def test_limits_are_told_in_the_same_words(ours: dict[str, Any], shape: str) -> None:
    """As warnings when a cluster is scaled or adapts beyond them; what fits is what runs."""
    limits = ours["limits"]
    assert limits[shape].keys() == THEIRS["limits"][shape].keys()
    for size, theirs in THEIRS["limits"][shape].items():
        if theirs and "exceed resource limit" in str(theirs):
            theirs = [f"{warning}{WHOSE[shape]}" for warning in theirs]
        assert limits[shape][size] == theirs, size


def test_what_is_not_there_is_told_in_the_same_words(ours: dict[str, Any]) -> None:
    """As dask-gateway's server says it."""
    assert ours["limits"]["of nothing"] == THEIRS["limits"]["of nothing"]
