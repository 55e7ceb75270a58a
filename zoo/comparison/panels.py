"""What a W&B dashboard shows of a comparison: sections of panels, and the names they find their numbers by.

The metrics are the comparison's columns as far as the runs have logged them, and the runs' curves; no list repeats them. Names are those
of W&B: `val/samples/normal/frechet@2000` for a measurement, `cost/device_hours` for what only the summary of a run holds.
"""

import math
from dataclasses import replace
from typing import Any

from zoo.comparison.labels import flat
from zoo.comparison.parts import Column, Comparison, Entry
from zoo.runs import records
from zoo.runs.layout import SUMMARY
from zoo.runs.measurements import Measurement, flat_name, measurements_of, name_of

Logged = dict[str, list[Measurement | None]]  # a name in W&B -> for each run that has it, the measurement, if it is one


def logged(entries: list[Entry]) -> Logged:
    """All that W&B has a number of, by the names it has there: what changed while the runs trained, and what they ended with."""
    from zoo.training.loggers import final_numbers

    found: Logged = {}
    for entry in entries:
        names: dict[str, Measurement | None] = dict.fromkeys(entry.curves)
        if entry.status == "finished" and entry.folder:
            summary, _ = records.read(entry.folder / SUMMARY)
            names |= dict.fromkeys(final_numbers(summary)) | {flat_name(one): one for one in measurements_of(summary)}
        for name, measurement in names.items():
            found.setdefault(name, []).append(measurement)
    return found


def measurement_of(name: str, names: Logged) -> Measurement | None:
    """What was measured under this name, if it is a measurement."""
    return next((one for one in names[name] if one), None)


def columns_of(comparison: Comparison, names: Logged, titles: set[str] | None = None) -> list[tuple[Column, list[str]]]:
    """The columns that the runs have logged, each once, and under which names: those of samples have one for each prior."""
    found: list[tuple[Column, list[str]]] = []
    for column in (column for table in comparison.tables if titles is None or table.title in titles for column in table.columns):
        quantity = column.quantity._replace(group=column.quantity.group.replace("best_prior", "samples"))
        plain = ("" if quantity.group == "cost" else "val/") + name_of(quantity)
        measured = {name: measurement_of(name, names) for name in names}
        matching = [name for name, one in measured.items() if (one.quantity._replace(prior=None) == quantity if one else name == plain)]
        if matching and matching not in [others for _, others in found]:
            found.append((column, matching))
    return found


def qualities(comparison: Comparison, names: Logged) -> list[tuple[str, Column]]:
    """The columns of the summary that tell better from worse, costs aside; of samples those from the commonest prior."""
    return [
        (max(matching, key=lambda name: len(names[name])), column)
        for column, matching in columns_of(comparison, names, {table.title for table in comparison.tables[:1]})
        if column.better in ("high", "low") and column.quantity.group != "cost"
    ]


def sections(comparison: Comparison, entries: list[Entry]) -> list[tuple[str, list[Any]]]:
    """What both show: titles, and panels that reckon with runs being grouped by row."""
    import wandb_workspaces.reports.v2 as wr

    seeds: Any = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev", "max_runs_to_show": len(entries)}
    names = logged(entries)

    def bars(column: Column, matching: list[Any]) -> Any:
        # As logged, which the numbers are, too: "samples/…/kernel_distance@2000 ↓", not in thousandths as the column says.
        one = measurement_of(matching[0], names)
        name = matching[0] if one is None or len(matching) == 1 else flat_name(replace(one, prior="…"))
        title = name.removeprefix("val/") + column.header.removeprefix(column.title)
        return wr.BarPlot(title=title, metrics=matching, max_bars_to_show=len(entries) * len(matching), **seeds)

    def lines(metric: str) -> Any:
        return wr.LinePlot(title=metric, x="images_seen", y=[metric], **seeds)

    columns = columns_of(comparison, names)
    final, costs = ([one for one in columns if (one[0].quantity.group == "cost") == cost] for cost in (False, True))
    against = [matching[0] for column, matching in costs if column.better is not None][:2]  # hours and speed
    pairs = [(metric, cost) for metric, _ in qualities(comparison, names) for cost in against]
    # Curves that are no constants; measurements are made at the end alone.
    moving = {name for entry in entries for name, values in entry.curves.items() if len(set(filter(math.isfinite, values))) > 1}
    curves = sorted((name for name in names if name in moving and not measurement_of(name, names)), key=lambda name: -len(names[name]))
    cost_curves = [lines(name) for column, _ in costs if (name := f"train/{column.quantity.metric}") in curves]
    kinds = dict.fromkeys(kind for entry in entries for kind in entry.image_files)
    found = {
        "Summary": [*(bars(*column) for column in final), wr.RunComparer(diff_only="split")],
        "Quality and cost": [
            wr.ScatterPlot(title=f"{metric} and {cost}", x=wr.SummaryMetric(cost), y=wr.SummaryMetric(metric)) for metric, cost in pairs
        ],
        "Curves": [lines(name) for name in curves if name.startswith("val/") or name == "train/loss"],
        "Cost": [*(bars(*column) for column in costs), *cost_curves],
    }
    found |= {kind.capitalize(): [wr.MediaBrowser(title=kind, media_keys=[f"pictures/{kind}"], num_columns=2)] for kind in kinds}
    return [(title, panels) for title, panels in found.items() if panels]


def grouping(comparison: Comparison) -> list[str]:
    """Settings whose values tell the rows apart, so that a group of runs is a row: "model.name", and more where that is not enough."""
    rows = [flat(row.entries[0].config) for row in comparison.rows if not row.published]
    keys = ["model.name"]
    for key in comparison.differing:
        longer, shorter = ({tuple(str(row.get(key)) for key in chosen) for row in rows} for chosen in ([*keys, key], keys))
        keys += [key] if len(longer) > len(shorter) else []
    return keys
