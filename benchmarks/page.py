"""The pages that quote the benchmark: ``docs/explanation/benchmarks.md``, and the README's table between its marks.

    python -m benchmarks.page [--check]

Every number on them comes from ``results/*.json``; nothing is copied by hand. The plots are drawn by ``plots.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks import figures
from benchmarks.figures import Line
from benchmarks.rows import GROUPS, Group

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/explanation/benchmarks.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- benchmarks: written by `make bench` -->", "<!-- end of benchmarks -->"

HEADLINE = ("what", "Tidegate", "dask-gateway", "direct", "ratio")

INTRODUCTION = """# Benchmarks

Made from `benchmarks/results/*.json` by `make bench`; measure again to change it.

Tidegate and dask-gateway run on the same machine, in one run, in alternation, with the same Dask; dask-gateway has its
default configuration but for the commands that start schedulers and workers, which current Dask has renamed. The
figures are medians. Machines differ and are shared, so the ratio is what to look at: how many times better Tidegate is.
A goal is such a ratio, or a limit where there is nothing to compare with; where one is not reached, the table says so.

How each row is taken: [benchmarks/README.md](../../benchmarks/README.md) and the files that it names.
"""


def plot_files(group: Group, content: dict[str, Any]) -> dict[str, list[Line]]:
    """Return what is drawn of a group: the name of each file, and its rows."""
    found = figures.lines(group, content)
    drawn = {}
    for unit, word in group.plots.items():
        rows = [line for line in found if line.row.unit == unit and line.row.plotted]
        if rows:
            drawn[f"{group.name}-{word}.svg"] = rows
    return drawn


def page() -> str:
    """Return the page of the documentation."""
    parts = [INTRODUCTION]
    for group in GROUPS:
        content = figures.read(group)
        if content is None:
            continue
        plots = "\n".join(
            f"![{group.title}: {line_unit(rows)}](benchmarks/{name})\n"
            for name, rows in plot_files(group, content).items()
        )
        table = figures.table(figures.lines(group, content))
        notes = "\n\n".join([*content["notes"], taken(content)])
        parts.append("\n\n".join(part.strip() for part in (f"## {group.title}", table, plots, notes) if part) + "\n")
    return "\n".join(parts)


def line_unit(rows: list[Line]) -> str:
    """Return what a plot's axis shows, in words."""
    words = {"s": "seconds", "B": "memory", "B/s": "throughput", "1/s": "requests per second", "cores": "CPU"}
    return words[rows[0].row.unit]


def taken(content: dict[str, Any]) -> str:
    """Return where and when figures were taken, as a sentence."""
    machine, versions = content["machine"], content["versions"]
    rounds = max(len(side["samples"]) for row in content["rows"].values() for side in row.values())
    return (
        f"Taken on {content['date']}: {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['processor']}, "
        f"Linux {machine['kernel']}, Python {machine['python']}, distributed {versions['distributed']}, "
        f"dask-gateway {versions['dask-gateway']}; {rounds} round{'s' if rounds > 1 else ''}."
    )


def readme() -> str:
    """Return the README with today's table between the marks."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    measured = [(group, content) for group in GROUPS if (content := figures.read(group))]
    found = [line for group, content in measured for line in figures.lines(group, content) if line.row.headline]
    table = figures.table(found, columns=HEADLINE)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> None:
    """Write the pages, or check that they are what the results say."""
    wanted = {PAGE: page(), README: readme()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
    if "--check" in sys.argv[1:]:
        if stale:
            sys.exit(f"{names}: not what benchmarks/results says. Run: python -m benchmarks.page")
        return
    for path in stale:
        path.write_text(wanted[path])
    print(f"pages: {'wrote ' + names if stale else 'up to date'}")


if __name__ == "__main__":
    main()
