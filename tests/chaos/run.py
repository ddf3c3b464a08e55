"""``make chaos``: play many rounds, print the table, and say per victim what its deaths cost.

::

    python -m tests.chaos.run [--rounds 200] [--seed N] [--only-round K] [--seconds 60] [--results FILE] [--lanes 2]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psutil

from tests.chaos.chapter import Chapter, Row
from tests.chaos.endurance import Endurance, endure
from tests.chaos.plan import make_round
from tests.chaos.victims import VICTIMS
from tests.chaos.world import become_subreaper, kill

CHAPTER = 10
"""Rounds on one gateway: enough for leaks to add up, few enough that a failure spoils little."""
HEAD = f"{'round':>5}  {'operation':<10}  {'victim':<10}  {'moments, s':<12}  {'took':>6}  {'settled':>7}  outcome"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play; return how a command ends that found something (1) or nothing (0). Broken off, it leaves nothing."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    become_subreaper()
    try:
        return _main(_parse(arguments))
    finally:
        while left := psutil.Process().children(recursive=True):
            for process in left:
                kill(process.pid)
            psutil.wait_procs(left, timeout=5)


def _main(options: argparse.Namespace) -> int:
    print(f"seed {options.seed}, {options.rounds} rounds, {options.lanes} gateways at a time\n\n{HEAD}", flush=True)
    began = time.monotonic()
    numbers = [options.only_round] if options.only_round is not None else range(options.rounds)
    rows: list[Row] = []
    with ProcessPoolExecutor(options.lanes, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as lanes:
        chapters = [lanes.submit(play, options.seed, list(part)) for part in _parts(numbers)]
        enduring = lanes.submit(endurance, options.seconds) if options.only_round is None and options.seconds else None
        for done in as_completed(chapters):
            rows += done.result()
        endured = enduring.result() if enduring is not None else None
    rows.sort(key=lambda row: row.number)
    bad = [row for row in rows if row.failure]
    words = [summary(rows), "", f"{len(rows)} rounds in {time.monotonic() - began:.0f} s; {len(bad)} failed"]
    if endured is not None:
        words.append(endured.words)
    print("", *words, sep="\n")
    for row in bad:
        print(f"\nround {row.number} failed: {row.failure}\n  repeat it: {repeat(options.seed, row)}")
    if options.results:
        _write(options.results, options.seed, rows, words)
    never = {v.role for v in VICTIMS} - {row.victim for row in rows if row.kills}
    if never and options.only_round is None:
        print(f"never killed: {', '.join(sorted(never))}")
    missed = bool(never) and len(rows) >= len(VICTIMS)
    return int(bool(bad) or missed or (endured is not None and bool(endured.failure)))


def play(seed: int, numbers: list[int]) -> list[Row]:
    """Play these rounds, on a new gateway after each that failed; return what became of them."""
    rows: list[Row] = []

    def tell(row: Row) -> None:
        rows.append(row)
        print(line(row), flush=True)

    left = list(numbers)
    while left:
        folder = Path(tempfile.mkdtemp(prefix=f"tidegate-chaos-{left[0]}-"))
        last: Row | None = None
        try:
            _say_into(folder / "users.log")
            with Chapter(folder, seed) as chapter:
                well = chapter.play((make_round(seed, number) for number in left), tell)
                last = rows[-1]
                if well:
                    chapter.finish()
        except Exception as error:
            # The gateway did not start, or something is left of its rounds: the last stands for all.
            if last is None:
                last = Row(left[0], "start", "nobody", ())
                rows.append(last)
            last.failure = f"{type(error).__name__}: {error}"
            print(line(last), flush=True)
        if last is not None and last.failure:
            last.failure += f"\n  its folder is kept: {folder}"
        else:
            shutil.rmtree(folder, ignore_errors=True)
        left = [number for number in left if number not in {row.number for row in rows}]
    return rows


def _say_into(path: Path) -> None:
    """Have what Dask tells its users about cut connections beside the gateway's logs, and not in the table."""
    with open(path, "ab") as log:
        os.dup2(log.fileno(), 2)


def endurance(seconds: float) -> Endurance:
    """Compute for so long while control is killed ten times and the server three times."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-chaos-endurance-"))
    endured = endure(folder, seconds)
    if not endured.failure:
        shutil.rmtree(folder, ignore_errors=True)
    return endured


def line(row: Row) -> str:
    """Return a round as a line of the table."""
    moments = " ".join(f"{moment:.2f}" for moment in row.moments)
    outcome = row.outcome if not row.failure else f"FAILED {row.failure.splitlines()[0][:200]}"
    what = f"{row.number:>5}  {row.operation:<10}  {row.victim:<10}  {moments:<12}"
    return f"{what}  {row.took:>6.2f}  {row.settled:>7.2f}  {outcome}"


def summary(rows: Sequence[Row]) -> str:
    """Return a table of what the deaths of each kind of process cost."""
    lines = [f"{'victim':<10}  {'rounds':>6}  {'kills':>5}  {'settled, median s':>17}  {'longest s':>9}  cost"]
    for victim in VICTIMS:
        own = [row for row in rows if row.victim == victim.role]
        if not own:
            continue
        settled = [row.settled for row in own]
        kills = sum(row.kills for row in own)
        bad = sum(bool(row.failure) for row in own)
        cost = f"{victim.cost.value}" + (f"; {bad} FAILED" if bad else "")
        lines.append(
            f"{victim.role:<10}  {len(own):>6}  {kills:>5}  {median(settled):>17.2f}  {max(settled):>9.2f}  {cost}"
        )
    return "\n".join(lines)


def repeat(seed: int, row: Row) -> str:
    """Return the command that plays a round again."""
    return f'make chaos ARGS="--seed {seed} --only-round {row.number}"'


def _write(path: Path, seed: int, rows: Sequence[Row], words: Sequence[str]) -> None:
    """Write down what was printed, the rounds in their order."""
    head = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}, seed {seed}"
    path.write_text("\n".join([head, "", *words, "", HEAD, *map(line, rows)]) + "\n")


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), CHAPTER):
        yield numbers[start : start + CHAPTER]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description="Kill everything, at any moment.")
    parser.add_argument("--rounds", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="what the rounds follow from")
    parser.add_argument("--only-round", type=int, help="play this one alone, as it was with the same seed")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the long computation; 0 leaves it out")
    # Most of a round is waiting.
    parser.add_argument("--lanes", type=int, default=max(2, os.cpu_count() or 2), help="gateways at a time")
    parser.add_argument("--results", type=Path, help="write what became of it to this file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
