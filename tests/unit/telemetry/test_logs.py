"""Logs: lines for people, JSON for machines, and no secret in either."""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.model.samples import NOW
from tidegate.control.credentials import mint
from tidegate.telemetry.logs import configure_logs, redact

SECRETS = mint("c1", NOW)
log = logging.getLogger("tidegate.control.something")


class Terminal(io.StringIO):
    """A stream that a person reads."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Leave the set-up of logging as it was found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(False)


def test_a_terminal_gets_lines():
    """Time, level, who, what; and what was set up before is gone."""
    stream = Terminal()
    configure_logs("control", stream=io.StringIO())
    configure_logs("control", stream=stream)
    log.info("cluster %s runs", "c1")
    log.debug("not this")
    _, _, rest = stream.getvalue().split(" ", 2)
    assert rest == f"control[{os.getpid()}] INFO control.something: cluster c1 runs\n"


def test_anything_else_gets_json():
    """One object a line, with the traceback in it."""
    stream = io.StringIO()
    configure_logs("proxy", level="debug", stream=stream)
    try:
        raise ValueError("out of\nluck")
    except ValueError:
        log.exception("cannot go on")
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["process"], entry["message"]) == ("error", "proxy", "cannot go on")
    assert entry["logger"] == log.name
    assert "ValueError: out of\nluck" in entry["exception"]


def test_a_message_is_one_line_whatever_a_user_puts_into_it():
    """No forged line, and no command to the terminal."""
    stream = Terminal()
    configure_logs("control", stream=stream)
    log.info("cluster %s", "a\n12:00:00 ERROR all is lost\x1b[2J")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_no_secret_is_written_even_in_a_traceback(stream):
    """In the message, in its arguments, and in what an exception says."""
    configure_logs("control", stream=stream)
    try:
        raise RuntimeError(f"cannot use {SECRETS.scheduler_key}")
    except RuntimeError:
        log.exception("with %s and Authorization: token %s", {"password": "hunter2"}, SECRETS.agent_token)
    for secret in (SECRETS.agent_token, "hunter2", SECRETS.scheduler_key.splitlines()[1]):
        assert secret not in stream.getvalue()
    assert "RuntimeError" in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer tdg_abc", "tdg_abc"),
        ("{'authorization': 'Basic YWxpY2U6c2VjcmV0'}", "YWxpY2U6c2VjcmV0"),
        ("b'authorization', b'Bearer xyz123456'", "xyz123456"),
        ("rejected token a1b2c3d4e5f6", "a1b2c3d4e5f6"),
        ("GET /_tidegate/open?ticket=eyJ.abc-_&next=/status", "eyJ.abc-_"),
        ('{"agent_token": "abcdef"}', "abcdef"),
        ("Cookie: tidegate-ticket=abc; other=def", "abc"),
        ("password=hunter2&x=1", "hunter2"),
        ("Settings(dashboard_secret='swordfish')", "swordfish"),
        (f"it was {SECRETS.dashboard_secret}", SECRETS.dashboard_secret),
        ("a token tdg_" + "Ab3" * 14, "Ab3" * 14),
        (SECRETS.client_key, SECRETS.client_key.splitlines()[1]),
        (repr(SECRETS.client_key), SECRETS.client_key.splitlines()[1]),
        (SECRETS.ca_key[:100], SECRETS.ca_key.splitlines()[1]),
    ],
    ids=itertools.count(),
)
def test_what_looks_like_a_secret_is_blotted_out(text, secret):
    """Headers, queries, mappings, reprs, PEM keys, whole or cut."""
    assert secret not in redact(text)
    assert "[redacted]" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "cluster 0123456789abcdef is running",
        "the token authentication of alice failed",
        "image dask@sha256:" + "ab" * 32,
        SECRETS.ca_cert,
        "GET /api/v2/clusters?limit=100 200",
    ],
)
def test_what_is_none_stays(text):
    """A log that hides everything helps nobody."""
    assert redact(text) == text


@given(st.text())
def test_any_text_can_be_redacted(text):
    """Twice is as good as once."""
    assert redact(redact(text)) == redact(text)
