"""From runs to tables: seeds as mean ± standard deviation, the best of each column, and what cannot be told from it."""

from collections.abc import Sequence
from statistics import mean, stdev

import pandas as pd
from pandas import DataFrame

from zoo.comparison.columns import TABLES, TRAINING_LOGGED
from zoo.comparison.parts import Column, Row, Table
from zoo.runs.measurements import DEFAULT_FEATURES, Quantity

LEVEL = 0.05  # of Welch's t-test
ENOUGH = 3  # seeds of either row: with two, the test would call almost everything noise


def numbers_of(rows: Sequence[Row]) -> DataFrame:
    """Every number of every run, as `Comparison.numbers` has them: what was measured, what it cost as the group "cost", and numbers of
    samples from the best prior of each row again as the group "best_prior"."""
    lines = []
    for row in rows:
        for entry in row.entries:
            cost = {Quantity("cost", name): value for name, value in entry.cost.items() if isinstance(value, int | float)}
            about = (row.label, entry.name, entry.model, entry.data, entry.seed)
            lines += [(*about, *(part or "" for part in quantity), float(value)) for quantity, value in (entry.metrics | cost).items()]
    numbers = DataFrame(lines, columns=["row", "run", "model", "data", "seed", *Quantity._fields, "value"])
    again = numbers[(numbers.group == "samples") & (numbers.prior == numbers.row.map(best_priors(numbers)))]
    order = {row.label: index for index, row in enumerate(rows)}
    numbers = pd.concat([numbers, again.assign(group="best_prior", prior="")])
    return numbers.sort_values("row", key=lambda labels: labels.map(order), kind="stable", ignore_index=True)


def best_priors(numbers: DataFrame) -> dict[str, str]:
    """The prior of each row whose samples have the lowest mean Fréchet distance, of those that the most seeds have."""
    found = select(numbers, Quantity("samples", "frechet", DEFAULT_FEATURES)).groupby(["row", "prior"], sort=False).value
    found = found.agg(["size", "mean"]).sort_values(["size", "mean"], ascending=[False, True], kind="stable")
    return {row: prior for row, prior in reversed(found.index)}


def select(numbers: DataFrame, quantity: Quantity) -> DataFrame:
    """The lines of this quantity; of samples from any prior, where it names none."""
    wanted = quantity._asdict() if quantity.prior else {key: value for key, value in quantity._asdict().items() if key != "prior"}
    for key, value in wanted.items():
        numbers = numbers[numbers[key] == (value or "")]
    return numbers


def tables_of(numbers: DataFrame) -> list[Table]:
    """All tables of a comparison; those that nobody has a number for are left out."""
    measured = set(numbers[numbers.group == "reconstructions"].metric)
    absent = [column for column in TRAINING_LOGGED if column.quantity.metric in measured]
    tables = [table(title, [one for one in columns if one not in absent], numbers) for title, columns in TABLES.items()]
    return [table for table in tables if len(table.cells)]


def table(title: str, columns: list[Column], numbers: DataFrame) -> Table:
    """A line for each row of runs or, of samples, for each row and prior; without the columns and lines that have no number."""
    keys = ["row", "prior"] if columns[0].quantity.group == "samples" else ["row"]
    parts = {column: select(numbers, column.quantity) for column in columns}
    cells = {column: cells_of(column, part.groupby(keys, sort=False).value) for column, part in parts.items() if len(part)}
    if not cells:
        return Table(title, [], DataFrame())
    found = pd.concat({column.header: part for column, part in cells.items()}, axis=1)
    lines = numbers.set_index(keys).index.drop_duplicates()
    found = found.reindex(lines[lines.isin(found.index)]).rename_axis(["model", "prior"][: len(keys)])
    texts = [name for name in found if name[1] in ("text", "mark")]
    found[texts] = found[texts].astype(object).fillna("")
    return Table(title, list(cells), found)


def cells_of(column: Column, seeds: "pd.api.typing.SeriesGroupBy") -> DataFrame:
    """What `Table` tells of a column, of the values of each line's seeds."""
    cells = (seeds.agg(list).map(lambda values: [value * column.factor for value in values])).to_frame("values")
    cells["mean"] = cells["values"].map(mean)
    cells["std"] = cells["values"].map(lambda values: stdev(values) if len(values) > 1 else float("nan"))
    cells["n"] = cells["values"].map(len)
    cells["mark"] = marks_of(column.better, list(cells["values"]))
    cells["text"] = [text_of(column, values, cells.n.max()) for values in cells["values"]]
    near = column.better is not None and not isinstance(column.better, str)
    cells["sort_by"] = cells["values"].map(lambda values: mean(costs_of(column.better, values))) if near else cells["mean"]
    return cells


def text_of(column: Column, values: list[float], most: int = 0) -> str:
    """ "0.123 ± 0.004" over seeds; with their number, where that is below that of other rows."""
    deviation = stdev(values) if len(values) > 1 else None
    same = deviation is None or (deviation == 0 and column.better is None)  # as the number of parameters
    text = f"{mean(values):,.{column.digits}f}" + ("" if same else f" ± {deviation:.{column.digits}f}")
    return text + (f" (n = {len(values)})" if len(values) < most else "")


def costs_of(better: str | float | None, values: list[float]) -> list[float]:
    """What is to be low: the numbers, their negatives where high is better, or their distances to the value to come near."""
    return [value if better in ("low", None) else -value if better == "high" else abs(value - float(better)) for value in values]


def marks_of(better: str | float | None, values: list[list[float]]) -> list[str]:
    """ "best", "noise" or "" for the seeds of each row; of a value to come near, the mean distance of the seeds to it decides.

    With less than three seeds in either row, little is known of noise, and there is no mark of it; nor any mark where all are equal.
    """
    costs = [costs_of(better, row) for row in values]
    means = [mean(row) for row in costs]
    if better is None or len(set(means)) < 2:
        return [""] * len(values)
    others = costs[means.index(min(means))]
    marks = []
    for row, middle in zip(costs, means, strict=True):
        if middle == min(means):
            marks.append("best")
        elif min(len(row), len(others)) < ENOUGH:
            marks.append("")
        else:
            from scipy.stats import ttest_ind_from_stats  # takes a second and a half to import

            # By their means and deviations, since scipy warns of samples without any spread.
            test = ttest_ind_from_stats(middle, stdev(row), len(row), min(means), stdev(others), len(others), equal_var=False)
            marks.append("noise" if test.pvalue >= LEVEL else "")
    return marks
