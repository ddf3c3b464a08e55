"""What the benchmark says about its samples: a wrong ratio would be a false promise."""

from __future__ import annotations

import pytest
from benchmarks.figures import DIRECT, OURS, THEIRS, Line, Recorder, percentile, show, summary, table
from benchmarks.rows import GROUPS, Row


def line(row: Row, **medians: float) -> Line:
    """Return a row with one sample of each side."""
    names = {"ours": OURS, "theirs": THEIRS, "direct": DIRECT}
    return Line(row, {names[side]: summary([value]) for side, value in medians.items()})


def test_a_ratio_says_how_many_times_better_we_are() -> None:
    """Whether less or more is better."""
    assert line(Row("a", "a", "s"), ours=0.5, theirs=2.0).ratio == 4.0
    assert line(Row("a", "a", "1/s", more=True), ours=0.5, theirs=2.0).ratio == 0.25


def test_a_goal_is_reached_at_the_goal_and_not_below() -> None:
    """Of ratios and of limits."""
    ratio, limit = Row("a", "a", ratio=4.0), Row("b", "b", limit=1.5)

    assert line(ratio, ours=0.5, theirs=2.0).reached is True
    assert line(ratio, ours=0.51, theirs=2.0).reached is False
    assert line(ratio, ours=0.5).reached is None
    assert line(limit, ours=1.5).reached is True
    assert line(limit, ours=1.6).reached is False


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_values_that_occurred(share: float, value: int) -> None:
    """The smallest one that this share of all do not exceed."""
    assert percentile([float(number) for number in range(100, 0, -1)], share) == value


def test_a_sample_for_a_row_that_is_not_declared_is_refused() -> None:
    """Else a misspelt row would be measured and never shown."""
    recorder = Recorder(GROUPS[0])

    with pytest.raises(KeyError):
        recorder.add("no such row", OURS, 1.0)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(1.5, "s", "1.5 s"), (0.0345, "s", "34.5 ms"), (19e-6, "s", "19 µs"), (1.1e9, "B/s", "1,100 MB/s")],
)
def test_figures_are_shown_in_the_unit_that_people_use(value: float, unit: str, text: str) -> None:
    """With three digits."""
    assert show(value, unit) == text


def test_a_table_leaves_out_columns_that_nobody_filled() -> None:
    """A group without a peer shows none."""
    assert table([line(Row("a", "what", "s"), ours=1.0)]).splitlines()[0] == "| what | Tidegate |"


def test_keys_of_rows_are_unique() -> None:
    """Two rows of one key would share their samples."""
    for group in GROUPS:
        keys = [row.key for row in group.rows]
        assert len(set(keys)) == len(keys)
