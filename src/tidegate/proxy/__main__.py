"""``python -m tidegate.proxy [SETTINGS.json | -] [LISTENER_FD ...]``: one proxy process.

Settings come from a file or, with ``-`` or nothing, from standard input; see ``settings.py``. Whoever starts it makes
it the leader of a session of its own (``start_new_session``), for it is to live on when its parent, its terminal and
its standard output are gone.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from tidegate.proxy.log_file import LogFile
from tidegate.proxy.server import serve
from tidegate.proxy.settings import BadSettings, Settings
from tidegate.telemetry.logs import configure_logs


def main(arguments: list[str]) -> int:
    """Run a proxy process; returns its exit status."""
    try:
        source, descriptors = _split(arguments)
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
        settings = Settings.from_json(text, descriptors)
    except (BadSettings, OSError, ValueError) as error:
        print(f"tidegate proxy: {error}", file=sys.stderr)
        return 2
    _set_up_logging(settings)
    try:
        _run(settings)
    except OSError as error:
        logging.getLogger("tidegate.proxy").error("the proxy cannot run: %s", error)
        return 1
    return 0


def _split(arguments: list[str]) -> tuple[str, tuple[int, ...]]:
    """Return where the settings are, and the descriptors that follow."""
    source = arguments[0] if arguments and not arguments[0].isdecimal() else "-"
    rest = arguments[1:] if arguments and source == arguments[0] else arguments
    return source, tuple(int(argument) for argument in rest)


def _run(settings: Settings) -> None:
    # uvloop serves more requests than asyncio's loop and adds less delay to what is spliced; it is not needed, though.
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    run(serve(settings))


def _set_up_logging(settings: Settings) -> None:
    # A log that cannot be written (a closed pipe, a full disk) must not disturb what the process is for.
    logging.raiseExceptions = False
    file = None if settings.log_file is None else LogFile(settings.log_file)
    configure_logs("proxy", level=settings.log_level, file=file)
    # aiohttp's warnings quote what strangers send.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
