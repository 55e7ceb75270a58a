"""Curves as a page draws them: the mean over the seeds of a row with its range, thinned to a few hundred points."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.comparison.parts import Entry, Row

POINTS = 300  # of a curve at most
FIRST = ("val/mse", "val/psnr", "train/loss", "val/loss")  # what is looked at first
AXES = ("images_seen", "hours")

Curve = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]  # images seen, hours, values


def curves(rows: list[Row]) -> list[dict[str, Any]]:
    """The curves of each number that was logged for two rows or more (or for the only one), the most telling first."""
    names = dict.fromkeys(name for row in rows for entry in row.entries for name in entry.curves if name not in AXES)
    found = []
    for name in sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), not name.startswith("val/"))):
        lines = [line for k, row in enumerate(rows) if (line := line_of(k, row, name))]
        if len(lines) >= min(2, len(rows)):
            found.append({"name": name, "lines": lines})
    return found


def line_of(index: int, row: Row, name: str) -> dict[str, Any] | None:
    """One row's curve; None if no run of it has two points.

    Seeds are measured at the same numbers of images; where they are not, they are read off between their points. The mean is drawn
    as far as all seeds have come.
    """
    seeds = [seed for entry in row.entries if len((seed := _points(entry, name))[0]) > 1]
    if not seeds:
        return None
    start, stop = max(images[0] for images, _, _ in seeds), min(images[-1] for images, _, _ in seeds)
    grid = min((images for images, _, _ in seeds), key=len)
    grid = grid[(grid >= start) & (grid <= stop)]
    if len(grid) < 2:
        return None
    values = np.stack([np.interp(grid, images, value) for images, _, value in seeds])  # (seeds, points)
    hours = np.mean([np.interp(grid, images, hour) for images, hour, _ in seeds], axis=0)
    mean = values.mean(axis=0)
    kept = thinned(mean, POINTS)
    line = {"row": index, "images": _rounded(grid[kept]), "mean": _rounded(mean[kept]), "count": len(seeds)}
    if np.isfinite(hours).all():
        line["hours"] = _rounded(hours[kept])
    if len(seeds) > 1:
        line |= {"low": _rounded(values.min(axis=0)[kept]), "high": _rounded(values.max(axis=0)[kept])}
    return line


def thinned(values: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Positions of at most `most` values that keep the shape: the first, the last, and the lowest and highest of equal stretches."""
    count = len(values)
    if count <= most:
        return np.arange(count)
    borders = np.linspace(1, count - 1, (most - 2) // 2 + 1).astype(int)
    kept = {0, count - 1}
    for start, stop in pairwise(borders):
        kept |= {start + int(values[start:stop].argmin()), start + int(values[start:stop].argmax())}
    return np.array(sorted(kept))


def _points(entry: Entry, name: str) -> Curve:
    """Where a run measured this number, in order; hours are nan where nobody knows them."""
    images, hours, values = (np.asarray(entry.curves.get(key, []), dtype=np.float64) for key in (*AXES, name))
    if len(images) != len(values):
        return images[:0], images[:0], images[:0]
    timed = np.isfinite(hours) & np.isfinite(images) if len(hours) == len(images) else np.zeros(len(images), dtype=bool)
    known = np.flatnonzero(np.isfinite(values) & np.isfinite(images))
    known = known[np.argsort(images[known], kind="stable")]
    clock = np.interp(images[known], images[timed], hours[timed]) if timed.any() else np.full(len(known), np.nan)
    return images[known], clock, values[known]


def _rounded(values: NDArray[np.float64]) -> list[float]:
    """Five significant digits: more cannot be seen, and cost space."""
    return [value if value == 0 or not math.isfinite(value) else float(f"{value:.5g}") for value in values.tolist()]
