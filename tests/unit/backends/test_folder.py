"""A cluster's folder: written whole, read with suspicion."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from tidegate.backends.local.accounts import own
from tidegate.backends.local.folder import ClusterFolder, folders
from tidegate.backends.local.keeper.journal import Journal
from tidegate.backends.local.keeper.processes import identity
from tidegate.backends.local.statuses import STATUSES, Status
from tidegate.model.errors import Invalid


@pytest.fixture
def folder(tmp_path: Path) -> ClusterFolder:
    """Give a cluster's folder with a secret in it."""
    folder = ClusterFolder(tmp_path / "clusters", "0123456789abcdef")
    folder.give_to(own())
    folder.create({"agent.json": b"{}"})
    return folder


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "A", "a" * 64, "-a", "a\n", ".mark"])
def test_a_name_cannot_leave_its_place(tmp_path: Path, name: str) -> None:
    """Only lower-case letters, digits and dashes make a cluster's folder."""
    with pytest.raises(Invalid):
        ClusterFolder(tmp_path, name)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc/x"])
def test_a_file_handed_over_stays_in_its_folder(folder: ClusterFolder, name: str) -> None:
    """A name with a path in it is refused."""
    with pytest.raises(Invalid):
        folder.create({name: b""})


def test_nobody_else_reads(folder: ClusterFolder) -> None:
    """Folders 0700, files 0600, whatever the umask."""
    before = os.umask(0)
    try:
        folder.create({"agent.json": b"{}", "ca.pem": b""})
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (folder.path, folder.secrets, folder.logs)} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in folder.secrets.iterdir()} == {0o600}
    assert sorted(path.name for path in folder.secrets.iterdir()) == ["agent.json", "ca.pem"]


def test_the_last_line_about_a_process_is_its_state(folder: ClusterFolder) -> None:
    """Statuses are read as they are appended, half lines when they are whole, and nonsense is passed over."""
    journal = Journal(str(folder.status_file))
    assert folder.statuses() == {}
    journal.running("scheduler")
    assert folder.statuses() == {"scheduler": Status("scheduler", "running")}
    with folder.status_file.open("ab") as file:
        file.write(b'nonsense\n[1]\n{"process": "default-1", "state":')
    assert set(folder.statuses()) == {"scheduler"}
    with folder.status_file.open("ab") as file:
        file.write(b' "running"}\n')
    assert set(folder.statuses()) == {"scheduler", "default-1"}
    journal.exited("scheduler", why="w" * 5000, code="killed")
    status = folder.statuses()["scheduler"]
    assert (status.state, status.code, status.expected, len(status.why)) == ("exited", "killed", False, 1000)


def test_a_journal_waits_for_room(folder: ClusterFolder) -> None:
    """What cannot be written is written with the next line."""
    told: list[int] = []
    journal = Journal(str(folder.status_file))
    journal.on_change = lambda: told.append(1)
    folder.status_file.mkdir()
    journal.running("scheduler")
    folder.status_file.rmdir()
    journal.running("default-1")
    assert list(folder.statuses()) == ["scheduler", "default-1"]
    assert told == [1, 1]


def test_a_keeper_is_known_by_more_than_its_number(folder: ClusterFolder) -> None:
    """A process id that was given to another process, or noted before a reboot, is no keeper."""
    import json

    assert folder.keeper() is None
    own = identity(os.getpid())
    assert own is not None
    folder.pid_file.write_text(json.dumps(own))
    assert folder.keeper() == os.getpid()
    for other in ({"started": 1}, {"boot": "another"}, {"pid": 0}, {"pid": 2**22 + 1}, {"pid": "x"}):
        folder.pid_file.write_text(json.dumps(own | other))
        assert folder.keeper() is None
    folder.pid_file.write_text("{")
    assert folder.keeper() is None


def test_logs_are_read_from_their_end_and_through_no_link(folder: ClusterFolder, tmp_path: Path) -> None:
    """The last lines, also of a log without an end of line; a link in the place of a log is not followed."""
    (folder.logs / "scheduler.log").write_bytes(b"x" * 2_000_000 + b"\none\ntwo\xff\nthree")
    assert folder.log_tail("scheduler", 2) == "two\ufffd\nthree"
    assert folder.log_tail("scheduler", 0) == ""
    assert folder.log_tail("default-1", 10) == ""
    (tmp_path / "secret").write_text("secret")
    (folder.logs / "default-1.log").symlink_to(tmp_path / "secret")
    assert folder.log_tail("default-1", 10) == ""


def test_nothing_in_it_is_waited_for_or_believed(folder: ClusterFolder, tmp_path: Path) -> None:
    """Pipes, devices, links and endless lines in the places of files are as good as no file."""
    (folder.logs / "scheduler.log").symlink_to("/dev/zero")
    os.mkfifo(folder.status_file)
    os.mkfifo(folder.pid_file)
    folder.launch_file.symlink_to(tmp_path / "lies")
    (tmp_path / "lies").write_text('{"cluster": "0123456789abcdef", "scratch": "/"}')
    assert (folder.statuses(), folder.keeper(), folder.read_launch()) == ({}, None, {})
    assert folder.log_tail("scheduler", 10) == ""
    Journal(str(folder.status_file)).running("scheduler")
    folder.status_file.unlink()
    folder.status_file.write_text('{"process": ' + "[" * 100_000 + "\n" + '{"process": "../x", "state": "running"}\n')
    assert folder.statuses() == {}
    other = folder.logs
    other.rename(folder.path / "elsewhere")
    other.symlink_to(folder.path / "elsewhere")
    (folder.path / "elsewhere" / "default-1.log").write_text("x")
    assert folder.log_tail("default-1", 10) == ""


def test_another_clusters_launch_is_not_believed(folder: ClusterFolder, tmp_path: Path) -> None:
    """What was noted of one cluster says nothing of another."""
    folder.write_launch({"cluster": "fedcba9876543210", "scratch": str(tmp_path)})
    assert folder.read_launch() == {}
    folder.write_launch({"cluster": folder.name, "scratch": str(tmp_path / "scratch")})
    assert folder.read_launch()["scratch"] == str(tmp_path / "scratch")


def test_logs_come_in_the_order_of_numbers(folder: ClusterFolder) -> None:
    """The scheduler first, then workers, 2 before 10; the keeper's own log is not for users."""
    for name in ("default-10", "keeper", "default-2", "scheduler", "big-1"):
        (folder.logs / f"{name}.log").touch()
    assert folder.logged() == ["scheduler", "big-1", "default-2", "default-10"] or folder.logged()[0] == "scheduler"
    assert folder.logged().index("default-2") < folder.logged().index("default-10")
    assert "keeper" not in folder.logged()


def test_what_is_no_cluster_is_not_listed(folder: ClusterFolder, tmp_path: Path) -> None:
    """Files, links and folders of ours beside the clusters are passed over."""
    root = tmp_path / "clusters"
    (root / ".keeper").mkdir()
    (root / "file").touch()
    (root / "link").symlink_to(tmp_path)
    assert [found.name for found in folders(root)] == [folder.name]
    assert list(folders(tmp_path / "missing")) == []


def test_without_a_descriptor_nobody_is_called_dead(folder: ClusterFolder) -> None:
    """Who cannot look knows nothing: it says so, instead of "there is no keeper"."""
    note = identity(os.getpid())
    folder.pid_file.write_text(json.dumps(note))
    Journal(str(folder.status_file)).running("scheduler")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The next number would be the lowest that is free.
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        for look in (folder.keeper, folder.statuses, lambda: identity(os.getpid())):
            with pytest.raises(OSError, match="Too many open files"):
                look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert folder.keeper() == os.getpid()
    assert set(folder.statuses()) == {"scheduler"}


def test_the_newest_ends_are_kept_and_all_that_runs(folder: ClusterFolder) -> None:
    """A journal that names more than can be told at a look loses the oldest ends, and then what cannot be true."""
    lines = ['{"process": "scheduler", "state": "running"}', '{"process": "old-1", "state": "running"}']
    count = 3 * STATUSES
    lines += [f'{{"process": "default-{n}", "state": "exited"}}' for n in range(count)]
    folder.status_file.write_text("\n".join(lines) + "\n")
    statuses = folder.statuses()
    assert len(statuses) == STATUSES
    assert list(statuses)[:2] == ["scheduler", "old-1"]
    assert list(statuses)[-1] == f"default-{count - 1}"
    with folder.status_file.open("a") as file:
        file.write("".join(f'{{"process": "more-{n}", "state": "running"}}\n' for n in range(count)))
    assert len(folder.statuses()) == STATUSES
    assert "scheduler" in folder.statuses()


def test_what_a_journal_says_can_be_passed_on(folder: ClusterFolder) -> None:
    """Half a character, which nobody can encode, is none."""
    line = '{"process": "default-1", "state": "exited", "why": "a\\ud800b", "code": "\\u0000"}\n'
    folder.status_file.write_text(line)
    status = folder.statuses()["default-1"]
    assert (status.why, status.code) == ("a b", " ")
