"""The plots of the benchmark, as SVG: ``python -m benchmarks.plots``, in the environment that has matplotlib.

One bar per side and row, with the quartiles as a thin line. What spans more than a factor of thirty is drawn on a
logarithmic axis, and says so.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl  # type: ignore[import-not-found] # in an environment of its own

from benchmarks import figures
from benchmarks.figures import DIRECT, OURS, THEIRS, Line
from benchmarks.page import PAGE, plot_files
from benchmarks.rows import GROUPS

mpl.use("svg")
# The same figures give the same file: no random names of elements, no date.
mpl.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9, "axes.axisbelow": True})

from matplotlib import pyplot as plt  # noqa: E402 - after the choice of what it draws with
from matplotlib.ticker import MultipleLocator  # type: ignore[import-not-found] # noqa: E402

FOLDER = PAGE.parent / "benchmarks"
COLOURS = {OURS: "#2a78a0", THEIRS: "#d98a3d", DIRECT: "#9a9a9a"}
LABELS = {OURS: "Tidegate", THEIRS: "dask-gateway", DIRECT: "direct"}
THICKNESS = 0.8
"""Of all bars of one row together; the rest is the gap to the next."""
LOGARITHMIC_FROM = 30


def draw(rows: list[Line], path: Path) -> None:
    """Draw these rows, which share a unit, into a file."""
    sides = [side for side in (OURS, THEIRS, DIRECT) if any(side in line.figures for line in rows)]
    figure, axes = plt.subplots(figsize=(8, 0.9 + len(rows) * (0.16 + 0.2 * len(sides))), layout="constrained")
    height = THICKNESS / len(sides)
    for number, side in enumerate(sides):
        for place, line in enumerate(rows):
            if side in line.figures:
                _bar(axes, line, side, place + (number - (len(sides) - 1) / 2) * height, height)
    medians = [value for line in rows for side in sides if (value := line.median(side))]
    if max(medians) > LOGARITHMIC_FROM * min(medians):
        axes.set_xscale("log")
        axes.set_xlabel("logarithmic")
    unit = rows[0].row.unit
    if unit == "B":  # round numbers of MiB are not round numbers
        axes.xaxis.set_major_locator(MultipleLocator(2 ** math.ceil(math.log2(max(medians) / 6))))
    axes.xaxis.set_major_formatter(lambda value, _: figures.show(value, unit))
    axes.set_yticks(range(len(rows)), [line.row.title.replace("`", "") for line in rows])
    axes.invert_yaxis()
    axes.margins(x=0.28)  # for the figures beside the bars
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[side]) for side in sides]
    figure.legend(handles, [LABELS[side] for side in sides], loc="outside upper left", ncols=3, frameon=False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def _bar(axes: plt.Axes, line: Line, side: str, at: float, height: float) -> None:
    content = line.figures[side]
    median, (low, high) = content["median"], content["quartiles"]
    axes.barh(at, median, height * 0.92, color=COLOURS[side])
    if high > low:
        axes.plot([low, high], [at, at], color="#333333", linewidth=0.9)
    label = figures.show(median, line.row.unit)
    if side == OURS and line.ratio is not None:
        label += f"   ({line.ratio:.3g} ×)"
    axes.annotate(label, (max(median, high), at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)


def main() -> None:
    """Draw everything that there are results of."""
    FOLDER.mkdir(exist_ok=True)
    drawn = set()
    for group in GROUPS:
        content = figures.read(group)
        for name, rows in plot_files(group, content).items() if content else ():
            draw(rows, FOLDER / name)
            drawn.add(name)
    for path in FOLDER.glob("*.svg"):
        if path.name not in drawn:
            path.unlink()


if __name__ == "__main__":
    main()
