"""What a W&B dashboard shows of a comparison: sections of panels, and the names they find their numbers by.

The metrics are the comparison's columns as far as the runs have logged them, and the runs' curves; no list repeats them. Names are those
of W&B: `val/samples/normal/frechet@2000` for a measurement, `cost/device_hours` for what only the summary of a run holds.
"""

import math
from dataclasses import replace
from typing import Any, NamedTuple

from zoo.comparison.labels import flat
from zoo.comparison.parts import Column, Comparison, Entry, Table
from zoo.runs import records
from zoo.runs.layout import SUMMARY
from zoo.runs.measurements import Measurement, flat_name, measurements_of, name_of


class Logged(NamedTuple):
    """What was logged under one name."""

    runs: int  # how many have it
    measurement: Measurement | None  # of one of them, if it is one


Sections = list[tuple[str, list[Any]]]
Names = dict[str, Logged]


def logged(entries: list[Entry]) -> Names:
    """All that W&B has a number of, by the names it has there: what changed while the runs trained, and what they ended with."""
    from zoo.training.loggers import final_numbers

    found: Names = {}
    for entry in entries:
        names: dict[str, Measurement | None] = dict.fromkeys(entry.curves)
        if entry.status == "finished" and entry.folder:
            summary, _ = records.read(entry.folder / SUMMARY)
            names |= dict.fromkeys(final_numbers(summary)) | {flat_name(one): one for one in measurements_of(summary)}
        for name, measurement in names.items():
            runs, known = found.get(name, Logged(0, None))
            found[name] = Logged(runs + 1, known or measurement)
    return found


def columns_of(comparison: Comparison, names: Names) -> list[tuple[Table, Column, list[str]]]:
    """The comparison's columns that the runs have logged, each once, and under which names: those of samples have one for each prior."""
    found: list[tuple[Table, Column, list[str]]] = []
    for table in comparison.tables:
        for column in table.columns:
            matching = [name for name, one in names.items() if is_of(column, name, one.measurement)]
            if matching and matching not in [others for *_, others in found]:
                found.append((table, column, matching))
    return found


def is_of(column: Column, name: str, measurement: Measurement | None) -> bool:
    """Whether what was logged under this name is of the column; of samples from any prior."""
    quantity = column.quantity
    if measurement is None:
        return name == ("" if quantity.group == "cost" else "val/") + name_of(quantity)
    return measurement.quantity._replace(prior=None) == quantity._replace(group=quantity.group.replace("best_prior", "samples"))


def title_of(column: Column, matching: list[str], names: Names) -> str:
    """As logged, which the numbers are, too: "samples/…/kernel_distance@2000 ↓", not in thousandths as the column says."""
    measurement = names[matching[0]].measurement
    name = matching[0] if measurement is None or len(matching) == 1 else flat_name(replace(measurement, prior="…"))
    return name.removeprefix("val/") + column.header.removeprefix(column.title)


def qualities(comparison: Comparison, names: Names) -> list[tuple[str, Column]]:
    """The columns of the first table, the summary, that tell better from worse, costs aside; of samples those from the commonest prior."""
    return [
        (max(matching, key=lambda name: names[name].runs), column)
        for table, column, matching in columns_of(comparison, names)
        if table is comparison.tables[0] and column.better in ("high", "low") and column.quantity.group != "cost"
    ]


def sections(comparison: Comparison, entries: list[Entry]) -> Sections:
    """What both show: titles, and panels that reckon with runs being grouped by row."""
    import wandb_workspaces.reports.v2 as wr

    seeds: Any = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev", "max_runs_to_show": len(entries)}

    def bars(column: Column, metrics: list[Any]) -> Any:
        return wr.BarPlot(title=title_of(column, metrics, names), metrics=metrics, max_bars_to_show=len(entries) * len(metrics), **seeds)

    def lines(metric: str) -> Any:
        return wr.LinePlot(title=metric, x="images_seen", y=[metric], **seeds)

    names = logged(entries)
    columns = columns_of(comparison, names)
    final, costs = ([(c, found) for _, c, found in columns if (c.quantity.group == "cost") == cost] for cost in (False, True))
    against = [found[0] for column, found in costs if column.better is not None][:2]  # hours and speed
    # Curves that are no constants; measurements are made at the end alone.
    moving = {name for entry in entries for name, values in entry.curves.items() if len(set(filter(math.isfinite, values))) > 1}
    curves = sorted((name for name in names if name in moving and names[name].measurement is None), key=lambda name: -names[name].runs)
    cost_curves = [f"train/{column.quantity.metric}" for column, _ in costs]
    image_files = dict.fromkeys(kind for entry in entries for kind in entry.image_files)
    found: Sections = [
        ("Summary", [*(bars(*column) for column in final), wr.RunComparer(diff_only="split")]),
        (
            "Quality and cost",
            [
                wr.ScatterPlot(title=f"{metric} and {cost}", x=wr.SummaryMetric(cost), y=wr.SummaryMetric(metric))
                for metric, _ in qualities(comparison, names)
                for cost in against
            ],
        ),
        ("Curves", [lines(name) for name in curves if name.startswith("val/") or name == "train/loss"]),
        ("Cost", [*(bars(*column) for column in costs), *(lines(name) for name in cost_curves if name in curves)]),
        *((kind.capitalize(), [wr.MediaBrowser(title=kind, media_keys=[f"pictures/{kind}"], num_columns=2)]) for kind in image_files),
    ]
    return [(title, panels) for title, panels in found if panels]


def grouping(comparison: Comparison) -> list[str]:
    """Settings whose values tell the rows apart, so that a group of runs is a row: "model.name", and more where that is not enough."""
    rows = [flat(row.entries[0].config) for row in comparison.rows if not row.published]

    def groups(keys: list[str]) -> int:
        return len({tuple(str(row.get(key)) for key in keys) for row in rows})

    keys = ["model.name"]
    for key in comparison.differing:
        if groups([*keys, key]) > groups(keys):
            keys.append(key)
    return keys
