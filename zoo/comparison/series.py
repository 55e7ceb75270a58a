"""Curves as a page draws them: the mean over the seeds of a row with its range, thinned to a few hundred points."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series

from zoo.comparison.parts import Entry, Row

POINTS = 300  # of a curve at most
FIRST = ("val/mse", "val/psnr", "train/loss", "val/loss")  # what is looked at first
AXES = ("images_seen", "hours")


def curves(rows: list[Row]) -> list[dict[str, Any]]:
    """The curves of each number that was logged for two rows or more (or for the only one), the most telling first."""
    logged = [[log_of(entry) for entry in row.entries] for row in rows]
    names = dict.fromkeys(name for row in logged for log in row for name in log if name not in AXES)
    found = []
    for name in sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), not name.startswith("val/"))):
        lines = [{"row": index, **line} for index, row in enumerate(logged) if (line := line_of(row, name))]
        if len(lines) >= min(2, len(rows)):
            found.append({"name": name, "lines": lines})
    return found


def log_of(entry: Entry) -> DataFrame:
    """What a run logged, by images seen, with hours wherever they can be told; nan where nothing was measured."""
    log = DataFrame(entry.curves, dtype=float).replace([np.inf, -np.inf], np.nan)
    if "images_seen" not in log:
        return DataFrame()
    log = log.dropna(subset="images_seen").set_index("images_seen").sort_index(kind="stable")
    return log.assign(hours=log.hours.interpolate("index", limit_direction="both")) if "hours" in log else log.assign(hours=np.nan)


def line_of(logs: list[DataFrame], name: str) -> dict[str, Any]:
    """One row's curve from the logs of its seeds; {} if no run of it has two points.

    Seeds are measured at the same numbers of images; where they are not, they are read off between their points. The mean is drawn
    as far as all seeds have come.
    """
    seeds = [seed for log in logs if name in log and len(seed := log.dropna(subset=name)) > 1]
    if not seeds:
        return {}
    images = min((seed.index for seed in seeds), key=len)
    images = images[(images >= max(seed.index[0] for seed in seeds)) & (images <= min(seed.index[-1] for seed in seeds))]
    if len(images) < 2:
        return {}
    read = {key: np.stack([np.interp(images, seed.index, seed[key]) for seed in seeds]) for key in (name, "hours")}  # (seeds, points)
    line = DataFrame({"images": images, "hours": read["hours"].mean(0)})
    line["mean"], line["low"], line["high"] = (read[name].mean(0), read[name].min(0), read[name].max(0))
    line = line.iloc[thinned(line["mean"].to_numpy(), POINTS)].map(lambda value: float(f"{value:.5g}"))  # more digits cannot be seen
    unknown = [*(["low", "high"] if len(seeds) == 1 else []), *(["hours"] if line.hours.isna().any() else [])]
    return line.drop(columns=unknown).to_dict("list") | {"count": len(seeds)}


def thinned(values: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Positions of at most `most` values that keep the shape: the first, the last, and the lowest and highest of equal stretches."""
    positions = np.arange(len(values))
    if len(values) <= most:
        return positions
    stretches = Series(values).groupby(positions * ((most - 2) // 2) // len(values))
    return np.unique([0, *stretches.idxmin(), *stretches.idxmax(), len(values) - 1])
