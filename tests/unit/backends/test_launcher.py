"""Handing the keeper's code over."""

from __future__ import annotations

import os
from pathlib import Path

from tidegate.backends.local import keeper
from tidegate.backends.local.launcher import Launcher, hand_over
from tidegate.backends.local.settings import LocalSettings


def test_the_keepers_code_is_handed_over_once_per_version(tmp_path: Path) -> None:
    """The copy is complete, stands in a folder named by its content, and is not made again."""
    folder = hand_over(tmp_path)
    copied = {path.name: path.read_bytes() for path in (folder / "tidegate_keeper").glob("*.py")}
    assert copied == {path.name: path.read_bytes() for path in Path(keeper.__file__).parent.glob("*.py")}
    assert "__main__.py" in copied
    made = folder.stat().st_mtime_ns
    assert hand_over(tmp_path) == folder
    assert folder.stat().st_mtime_ns == made
    assert os.listdir(tmp_path) == [folder.name]


def test_the_keepers_code_imports_nothing_of_ours() -> None:
    """It runs where Tidegate is not installed."""
    for path in Path(keeper.__file__).parent.glob("*.py"):
        assert "tidegate." not in path.read_text().replace("tidegate_keeper", ""), path


def test_the_mark_stays(tmp_path: Path) -> None:
    """A restarted gateway recognizes the processes of the one before."""
    first, second = (Launcher(tmp_path / "clusters", LocalSettings(), tmp_path) for _ in range(2))
    first.prepare()
    second.prepare()
    assert first.mark == second.mark
    assert len(first.mark) == 16
    assert (tmp_path / "clusters").stat().st_mode & 0o777 == 0o700
