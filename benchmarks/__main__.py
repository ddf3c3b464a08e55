"""``python -m benchmarks [--only GROUP ...] [--rounds N]``: measure both sides, print the tables, write the results."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import subprocess
import sys
import time

from benchmarks import figures
from benchmarks.rows import GROUPS, Group
from benchmarks.sides import PEER

VERSIONS = """
import importlib.metadata as m, json
names = ("dask-gateway", "dask-gateway-server", "tidegate", "distributed", "tornado", "bokeh")
print(json.dumps({n: m.version(n) for n in names if any(d.name == n for d in m.distributions())}))
"""


def versions() -> dict[str, str]:
    """Return what is compared.

    Raises
    ------
    SystemExit
        When both sides would not run the same Dask.
    """
    ours, theirs = (
        json.loads(subprocess.run([str(python), "-c", VERSIONS], capture_output=True, text=True, check=True).stdout)
        for python in (sys.executable, PEER / "python")
    )
    differing = [name for name in ("distributed", "tornado", "bokeh") if ours.get(name) != theirs.get(name)]
    if differing:
        sys.exit(f"cannot compare: the two environments differ in {', '.join(differing)}; remove .envs/peer")
    found: dict[str, str] = {**theirs, **ours}
    return dict(sorted(found.items()))


def run(group: Group, rounds: int | None, found: dict[str, str]) -> None:
    """Measure one group, write its file, and print its table."""
    began = time.monotonic()
    recorder = figures.Recorder(group)
    measure = importlib.import_module(f"benchmarks.groups.{group.name}").measure
    measure(rounds or group.rounds, recorder)
    recorder.write(found)
    print(f"\n## {group.title}  ({time.monotonic() - began:.0f} s)\n")
    print(figures.table(figures.lines(group, figures.read(group) or {})))
    for note in recorder.notes:
        print(f"\n{note}")
    sys.stdout.flush()


def main() -> None:
    """Run what was asked for; a group that fails does not keep the others from being measured."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    names = [group.name for group in GROUPS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="GROUP", help=f"some of: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, help="in place of each group's own number")
    arguments = parser.parse_args()
    # Ended politely, it still ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found = versions()
    failed = []
    for group in GROUPS:
        if arguments.only and group.name not in arguments.only:
            continue
        print(f"measuring {group.name} ...", file=sys.stderr, flush=True)
        try:
            run(group, arguments.rounds, found)
        except (RuntimeError, TimeoutError, OSError) as error:
            print(f"{group.name} could not be measured: {error}", file=sys.stderr, flush=True)
            failed.append(group.name)
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
