"""What the gateway's processes write to their log, and what they never write.

To a terminal go lines for a person; to anything else (a file, a journal, a container's output) one JSON object a line,
which every log collector reads. What an operator needs is when, who, how bad, and which part.

Secrets have no business in messages: no request headers, no query strings, no bodies are logged anywhere. Under that
rule there is a net: whatever looks like a secret is blotted out at the last moment, in the formatter, which sees the
whole text, arguments and traceback included, whoever wrote it.

>>> redact("GET / Authorization: Bearer c2VjcmV0")
'GET / Authorization: [redacted]'
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import TextIO

HIDDEN = "[redacted]"

_SECRETS = (
    # A PEM key, whole or cut off, its line breaks real or escaped.
    (
        re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?:.*?-----END [A-Z0-9 ]*PRIVATE KEY-----|.*)", re.DOTALL),
        HIDDEN,
    ),
    # The header, as it is sent and as dictionaries and JSON show it: scheme and credential.
    (re.compile(r"(?i)(authorization\b[\"']?\s*[:=,]\s*(?:b?[\"'])?)[^\"'\r\n,}]+"), rf"\1{HIDDEN}"),
    # A credential after its scheme, without the header's name before it: words have no digits.
    (
        re.compile(r"(?i)\b(basic|bearer|negotiate|jupyterhub|token) +(?=\S*\d)[A-Za-z0-9._~+/-]{8,}=*"),
        rf"\1 {HIDDEN}",
    ),
    # Anything that is called a secret: in a query, a mapping or a repr.
    (
        re.compile(
            r"(?i)([\w-]*(?:token|secret|password|passwd|ticket|api[_-]?key)[\"']?\s*[:=]\s*(?:b?[\"'])?)"
            r"[^\s\"'&,;)}\]]+"
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)((?:set-)?cookie\b[\"']?\s*[:,]\s*(?:b?[\"'])?)[^\"'\r\n]+"), rf"\1{HIDDEN}"),
    # A personal token (authn/tokens.py).
    (re.compile(r"\btdg_[A-Za-z0-9_-]{20,}"), HIDDEN),
    # 256 bits of hexadecimal are a token of ours, unless they say that they are a digest.
    (re.compile(r"(?<!sha256:)\b[0-9a-f]{64}\b"), HIDDEN),
)

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != 9}

QUIET = ("aiohttp.access", "alembic", "asyncio", "sqlalchemy", "uvicorn")
"""Libraries that tell in INFO what is of no use to an operator: from them only warnings are wanted."""


def redact(text: str) -> str:
    """Return ``text`` without what looks like a secret."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class LineFormatter(logging.Formatter):
    """Lines for a person: time, process, level, who says it, what. A message is one line, whatever users put into it.

    Parameters
    ----------
    process : str
        The role of this process.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of ``record``."""
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        who = f"{self._process}[{record.process}] {record.levelname} {record.name.removeprefix('tidegate.')}"
        line = f"{clock} {who}: {record.getMessage().translate(_CONTROL)}"
        return redact("\n".join(filter(None, (line, _traceback(record)))))


class JsonFormatter(logging.Formatter):
    """One JSON object a line.

    It has ``time`` (UTC), ``level``, ``process`` (its role), ``pid``, ``logger``, ``message`` and, where there is one,
    ``exception``.

    Parameters
    ----------
    process : str
        The role of this process.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of ``record``."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if traceback := _traceback(record):
            entry["exception"] = redact(traceback)
        return json.dumps(entry, ensure_ascii=False)


def _traceback(record: logging.LogRecord) -> str:
    # A formatter of its own, because the record keeps the text that the first formatter made of it, unredacted.
    text = logging.Formatter().formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
    return "\n".join(filter(None, (text, record.stack_info or "")))


def configure_logs(
    process: str,
    *,
    level: str = "INFO",
    stream: TextIO | None = None,
    lines_of_json: bool | None = None,
    file: logging.Handler | None = None,
) -> None:
    """Set up logging for a process of the gateway; what was set up before is replaced.

    Parameters
    ----------
    process : str
        The role of this process, which every line bears: ``supervisor``, ``control``, ``proxy``, ...
    level : str
        The least important level that is written: ``DEBUG``, ``INFO``, ``WARNING``, ``ERROR``.
    stream : file, optional
        Where to; by default standard error.
    lines_of_json : bool, optional
        By default JSON is written unless ``stream`` is a terminal.
    file : logging.Handler, optional
        What writes, as JSON, instead of ``stream``: a file of the process's own.
    """
    stream = stream if stream is not None else sys.stderr
    handler = file if file is not None else logging.StreamHandler(stream)
    as_json = lines_of_json if lines_of_json is not None else file is not None or not stream.isatty()
    handler.setFormatter(JsonFormatter(process) if as_json else LineFormatter(process))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
