from dataclasses import replace

import numpy as np

from zoo.comparison.parts import Entry, Row
from zoo.comparison.series import curves, line_of, log_of, thinned


def test_thinning_keeps_ends_and_extremes():
    values = np.random.default_rng(0).normal(size=5000)
    values[[0, 1234, 4321, 4999]] = [0.1, 99, -99, 0.2]
    kept = thinned(values, 300)
    assert len(kept) <= 300
    assert {0, 1234, 4321, 4999} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all()
    stretches = np.array_split(values, 20)
    positions = np.array_split(np.arange(5000), 20)
    for stretch, places in zip(stretches, positions, strict=True):  # the shape stays: each twentieth keeps nearly its range
        inside = values[np.intersect1d(kept, places)]
        assert inside.max() - inside.min() > 0.8 * (stretch.max() - stretch.min())
    assert thinned(values[:300], 300).tolist() == list(range(300))


def test_a_curve_is_the_mean_over_seeds_with_their_range():
    nan = float("nan")
    first = Entry(None, "a", "finished", curves={"images_seen": [10, 20, 30, 40], "hours": [1, 2, 3, 4], "val/mse": [4, nan, 2, 1]})
    second = Entry(
        None, "b", "finished", curves={"images_seen": [10, 20, 30], "hours": [2, nan, 6], "val/mse": [6, 5, 4], "train/x": [1, 1, 1]}
    )
    line = line_of([log_of(first), log_of(second)], "val/mse")
    assert line == {"images": [10, 30], "mean": [5, 3], "count": 2, "hours": [1.5, 4.5], "low": [4, 2], "high": [6, 4]}
    alone = line_of([log_of(first)], "val/mse")
    assert alone == {"images": [10, 30, 40], "mean": [4, 2, 1], "count": 1, "hours": [1, 3, 4]}
    untimed = replace(first, curves={name: values for name, values in first.curves.items() if name != "hours"})
    assert "hours" not in line_of([log_of(untimed), log_of(second)], "val/mse")
    rows = [Row("a", [first]), Row("b", [second])]
    assert [curve["name"] for curve in curves(rows)] == ["val/mse"]  # a number of one model alone is nothing to compare
    assert [curve["name"] for curve in curves(rows[1:])] == ["val/mse", "train/x"]
    assert [line["row"] for line in curves(rows)[0]["lines"]] == [0, 1]
