"""Samples on their way into ``results/<group>.json``, and back: medians, quartiles, ratios, and whether a goal is met.

A result file holds every sample, what was measured where and when, and nothing that tells whose machine it was.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.rows import Group, Row

FOLDER = Path(__file__).parent / "results"

OURS = "tidegate"
THEIRS = "dask-gateway"
DIRECT = "direct"
SIDES = (OURS, THEIRS, DIRECT)


@dataclass
class Recorder:
    """Takes the samples of one group.

    Parameters
    ----------
    group : Group
    """

    group: Group
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, row: str, side: str, value: float) -> None:
        """Take one sample; the row must be one of the group's."""
        if row not in {known.key for known in self.group.rows} or side not in SIDES:
            raise KeyError(f"{self.group.name} has no row {row!r} for {side!r}")
        self.samples.setdefault(row, {}).setdefault(side, []).append(value)

    def note(self, text: str) -> None:
        """Remember what a reader of these figures has to know."""
        if text not in self.notes:
            self.notes.append(text)

    def write(self, versions: dict[str, str]) -> None:
        """Write the group's result file."""
        rows = {
            row.key: {side: summary(values) for side, values in self.samples[row.key].items()}
            for row in self.group.rows
            if row.key in self.samples
        }
        content = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine(),
            "versions": versions,
            "notes": self.notes,
            "rows": rows,
        }
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{self.group.name}.json"
        passing = path.with_suffix(".new")
        passing.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        passing.rename(path)


def summary(values: list[float]) -> dict[str, Any]:
    """Return the median, the quartiles and the samples themselves, to four digits."""
    low, high = (values[0], values[0])
    if len(values) > 1:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    samples = [_rounded(value) for value in values]
    return {
        "median": _rounded(statistics.median(values)),
        "quartiles": [_rounded(low), _rounded(high)],
        "samples": samples,
    }


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least this share of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def machine() -> dict[str, Any]:
    """Return what a reader needs to judge the figures."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "processor": _processor(),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
    }


def read(group: Group) -> dict[str, Any] | None:
    """Return what was measured last, or None."""
    path = FOLDER / f"{group.name}.json"
    content: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return content


@dataclass(frozen=True)
class Line:
    """A row with its figures: what the tables show."""

    row: Row
    figures: dict[str, dict[str, Any]]

    @property
    def ratio(self) -> float | None:
        """How many times better Tidegate is; None where there is nothing to compare with."""
        ours, theirs = self.median(OURS), self.median(THEIRS)
        if not ours or not theirs:
            return None
        return ours / theirs if self.row.more else theirs / ours

    @property
    def reached(self) -> bool | None:
        """Whether the goal is met; None where there is none, or nothing to compare with."""
        ours = self.median(OURS)
        if self.row.limit is not None and ours is not None:
            return ours <= self.row.limit
        return None if self.row.ratio is None or self.ratio is None else self.ratio >= self.row.ratio

    def median(self, side: str) -> float | None:
        """Return a side's median, or None."""
        figure = self.figures.get(side)
        return None if figure is None else figure["median"]

    def cells(self) -> tuple[str, ...]:
        """Return the row in words: title, Tidegate, dask-gateway, direct, ratio, goal, whether it is reached."""
        unit = self.row.unit
        ratio = "" if self.ratio is None or not unit else f"{self.ratio:.3g} ×"
        goal = ""
        if self.row.ratio is not None:
            goal = f"≥ {self.row.ratio:.3g} ×"
        elif self.row.limit is not None:
            goal = f"≤ {self.row.limit:g} {unit}".strip()
        reached = {True: "yes", False: "no", None: ""}[self.reached]
        return (self.row.title, *(show(self.median(side), unit) for side in SIDES), ratio, goal, reached)


def lines(group: Group, content: dict[str, Any]) -> list[Line]:
    """Return the rows of a result file, in the order of the group."""
    return [Line(row, content["rows"][row.key]) for row in group.rows if row.key in content["rows"]]


HEADER = ("what", "Tidegate", "dask-gateway", "direct", "ratio", "goal", "reached")


def table(found: list[Line], *, columns: tuple[str, ...] = HEADER) -> str:
    """Return rows as a table in Markdown; a column that is empty throughout is left out."""
    cells = [dict(zip(HEADER, line.cells(), strict=True)) for line in found]
    kept = [column for column in columns if any(row[column] for row in cells)]
    text = [f"| {' | '.join(kept)} |", f"|{' --- |' * len(kept)}"]
    text += [f"| {' | '.join(row[column] for column in kept)} |" for row in cells]
    return "\n".join(text)


_SCALES = {
    "s": ((1.0, "s", 1.0), (1e-3, "ms", 1e3), (0.0, "µs", 1e6)),
    "B": ((2**30, "GiB", 2**-30), (0.0, "MiB", 2**-20)),
    "B/s": ((0.0, "MB/s", 1e-6),),
    "cores": ((0.0, "% of a core", 100.0),),
    "1/s": ((0.0, "/s", 1.0),),
    "": ((0.0, "", 1.0),),
}
"""For each unit, from which value on it is shown in what, and by which number the value is multiplied for that."""


def show(value: float | None, unit: str) -> str:
    """Return a figure for people: three digits."""
    if value is None:
        return ""
    _, word, factor = next(scale for scale in _SCALES[unit] if abs(value) >= scale[0])
    scaled = value * factor
    text = f"{scaled:,.0f}" if abs(scaled) >= 100 else f"{scaled:.3g}"
    return f"{text} {word}".strip() if word != "/s" else f"{text}/s"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
