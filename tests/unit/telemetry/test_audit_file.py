"""The audit log as a file."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.model.audit import Deed, Entry, Outcome
from tidegate.telemetry.audit_file import AuditFile, to_line

ENTRY = Entry(
    1_700_000_000.25, Deed.CLUSTER_STOP, Outcome.DONE, principal="Zoë", actor="root", method="session", cluster="c1"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be."""
    return tmp_path / "audit.jsonl"


def test_an_entry_is_a_line_of_json():
    """Every key is there, the time is UTC as RFC 3339 has it."""
    line = to_line(ENTRY)

    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "action": "cluster.stop",
        "outcome": "done",
        "code": "",
        "user": "Zoë",
        "actor": "root",
        "method": "session",
        "token": "",
        "cluster": "c1",
        "detail": "",
        "address": "",
        "times": 1,
    }


def test_lines_are_added_to_a_private_file(path: Path):
    """What is there stays; nobody else can read it, whatever the umask."""
    before = os.umask(0)
    try:
        AuditFile(path).append([ENTRY])
    finally:
        os.umask(before)
    AuditFile(path).append([ENTRY, ENTRY])

    assert len(path.read_text().splitlines()) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_was_moved_aside_is_begun_anew(path: Path):
    """A rotation needs no signal and loses no line; removing the file works too."""
    file = AuditFile(path)
    file.append([ENTRY])
    path.rename(path.with_suffix(".1"))
    file.append([ENTRY, ENTRY])
    assert [len(p.read_text().splitlines()) for p in (path.with_suffix(".1"), path)] == [1, 2]

    path.unlink()
    file.append([ENTRY])
    assert len(path.read_text().splitlines()) == 1


def test_lines_go_through_no_link(path: Path, tmp_path: Path):
    """Whoever can write to the folder cannot have another file written to."""
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="symbolic link"):
        AuditFile(path).append([ENTRY])
    assert not (tmp_path / "elsewhere").exists()


FULL = """
import resource, signal, sys
from pathlib import Path
from tests.unit.telemetry.test_audit_file import ENTRY
from tidegate.telemetry.audit_file import AuditFile

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = AuditFile(Path(sys.argv[1]))
file.append([ENTRY])
size = Path(sys.argv[1]).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 2, resource.RLIM_INFINITY))
try:
    file.append([ENTRY, ENTRY])
except OSError as error:
    print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.append([ENTRY])
"""


def test_a_full_disk_leaves_no_half_line(path: Path):
    """What does not fit is taken away again whole, the error is told, and the next line is a line."""
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "File too large"
    lines = path.read_text().splitlines()
    assert [json.loads(line)["user"] for line in lines] == ["Zoë", "Zoë"]
