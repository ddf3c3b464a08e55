"""What the Hub starts for its users here: it answers like a notebook server, and leaves its environment in its home.

In a notebook of such a server programs run with that environment, and so do those of the tests.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit


class Handler(BaseHTTPRequestHandler):
    """Says yes to everything, which is all that the Hub waits for."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(204)
        self.end_headers()


def main() -> None:
    """Write the environment down, and serve until the Hub ends us."""
    half = Path.home() / "environment.half"
    half.write_text(json.dumps(dict(os.environ)))
    half.rename(Path.home() / "environment.json")
    url = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    with suppress(KeyboardInterrupt):
        HTTPServer((url.hostname or "", url.port or 0), Handler).serve_forever()


if __name__ == "__main__":
    main()
