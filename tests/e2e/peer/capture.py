"""``python -m tests.e2e.peer.capture`` asks dask-gateway's own server, and keeps its answers in ``answers.json``.

It runs ``dask-gateway-server`` 2026.3.0 from the environment that ``make bench`` makes (``.envs/peer``), with its Go
proxy and real clusters. With ``--check`` it only says whether the answers that are kept are still what it answers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.sides import PEER, DaskGateway, make_folder, running
from dask_gateway import BasicAuth, Gateway

from tests.e2e.peer.questions import Answers, ask_limits, ask_options

HERE = Path(__file__).parent
ANSWERS = HERE / "answers.json"
DECLARED = HERE / "declared"


class PeerServer(DaskGateway):
    """The server with options and limits."""

    @property
    def command(self) -> list[str]:
        """What starts it."""
        return [str(PEER / "dask-gateway-server"), "-f", str(DECLARED / "dask_gateway_config.py")]


def ask() -> Answers:
    """Return the answers of dask-gateway's own server."""
    with running(PeerServer(make_folder())) as server, Gateway(server.address, auth=BasicAuth("alice")) as user:
        answers = {"options": ask_options(user), "limits": ask_limits(user)}
    plain: Answers = json.loads(json.dumps(answers))
    return plain


def main() -> int:
    """Ask, and keep or compare."""
    answers = ask()
    if "--check" in sys.argv:
        return 0 if answers == json.loads(ANSWERS.read_text()) else 1
    ANSWERS.write_text(json.dumps(answers, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
