"""From rows of runs to tables: seeds as mean ± standard deviation, the best of each column, and what cannot be told from it."""

import math
from dataclasses import replace
from statistics import mean, stdev

from zoo.comparison.columns import CODES, COST, EDITS, INVARIANCE, MODELS, SAMPLES, SUMMARY, TRAINING_LOGGED, TRANSFER, column
from zoo.comparison.parts import Cell, Column, Row, Table
from zoo.runs.measurements import Quantity

LEVEL = 0.05  # of Welch's t-test
ENOUGH = 3  # seeds of either row: with two, the test would call almost everything noise
Line = tuple[tuple[str, ...], list[list[float]]]  # what names a row of a table; for each column the number of each seed


def tables_of(rows: list[Row]) -> list[Table]:
    """All tables of a comparison; those that nobody has a number for are left out."""
    logged = [
        column for column in TRAINING_LOGGED if not any(row.values(Quantity("reconstructions", column.quantity.metric)) for row in rows)
    ]
    tables = [
        by_model("Summary", SUMMARY, rows),
        by_prior("Samples", SAMPLES, rows),
        by_model("Reconstructions, interpolations, likelihood", MODELS + logged, rows),
        by_model("Codes", CODES, rows),
        by_model("Invariance of the codes", INVARIANCE, rows),
        by_model("Attribute edits", EDITS, rows),
        by_model("Attribute transfer", TRANSFER, rows),
        by_model("Cost", COST, rows),
    ]
    return [table for table in tables if table is not None]


def by_model(title: str, columns: list[Column], rows: list[Row]) -> Table | None:
    """One line for each row of runs."""
    return table(title, ["model"], columns, [((row.label,), [numbers(row, column) for column in columns]) for row in rows])


def by_prior(title: str, columns: list[Column], rows: list[Row]) -> Table | None:
    """One line for each row of runs and prior that its samples were drawn from."""
    lines: list[Line] = [
        ((row.label, prior), [numbers(row, column, prior) for column in columns]) for row in rows for prior in row.priors()
    ]
    return table(title, ["model", "prior"], columns, lines)


def numbers(row: Row, column: Column, prior: str | None = None) -> list[float]:
    """The number of each seed in a column, of samples from this prior, as it was measured (without the column's factor)."""
    quantity = column.quantity if prior is None else column.quantity._replace(prior=prior)
    return row.costs(quantity.metric) if quantity.group == "cost" else row.values(quantity)


def table(title: str, keys: list[str], columns: list[Column], lines: list[Line]) -> Table | None:
    """A table without the columns that nobody has a number for, and without the lines that have none; None if nothing is left."""
    lines = [line for line in lines if any(line[1])]
    filled = [index for index in range(len(columns)) if any(values[index] for _, values in lines)]
    if not filled:
        return None
    cells: list[list[Cell | None]] = [[] for _ in lines]
    for index in filled:
        column, values = columns[index], [values[index] for _, values in lines]
        most = max(map(len, values))
        for row, found, mark in zip(cells, values, marks_of(column.better, values), strict=True):
            row.append(cell(column, found, mark, most) if found else None)
    return Table(title, keys, [names for names, _ in lines], [columns[index] for index in filled], cells)


def cell(column: Column, values: list[float], mark: str = "", most: int = 0) -> Cell:
    """ "0.123 ± 0.004" over seeds; with their number, where that is below that of other rows."""
    scaled = [value * column.factor for value in values]
    middle, deviation = mean(scaled), stdev(scaled) if len(scaled) > 1 else None
    same = deviation is None or (deviation == 0 and column.better is None)  # as the number of parameters
    text = f"{middle:,.{column.digits}f}" + ("" if same else f" ± {deviation:.{column.digits}f}")
    if len(values) < most:
        text += f" (n = {len(values)})"
    distance = None if column.better is None or isinstance(column.better, str) else mean(costs_of(column.better, values))
    return Cell(middle, deviation, len(values), mark, text, distance)


def costs_of(better: str | float, values: list[float]) -> list[float]:
    """What is to be low: the numbers, their negatives where high is better, or their distances to the value to come near."""
    return [value if better == "low" else -value if better == "high" else abs(value - float(better)) for value in values]


def marks_of(better: str | float | None, values: list[list[float]]) -> list[str]:
    """ "best", "noise" or "" for each row; of a value to come near, the mean distance of the seeds to it decides.

    With less than three seeds in either row, little is known of noise, and there is no mark of it; nor any mark where all are equal.
    """
    if better is None or sum(map(bool, values)) < 2:
        return [""] * len(values)
    costs = [costs_of(better, row) for row in values]
    means = [mean(row) if row else math.inf for row in costs]
    best = means.index(min(means))
    if len({middle for row, middle in zip(costs, means, strict=True) if row}) == 1:
        return [""] * len(values)
    marks = []
    for row, middle in zip(costs, means, strict=True):
        if middle == means[best]:
            marks.append("best")
        elif min(len(row), len(costs[best])) < ENOUGH:
            marks.append("")
        else:
            from scipy.stats import ttest_ind_from_stats  # takes a second and a half to import

            others = costs[best]  # by their means and deviations, since scipy warns of samples without any spread
            test = ttest_ind_from_stats(middle, stdev(row), len(row), means[best], stdev(others), len(others), equal_var=False)
            marks.append("noise" if test.pvalue >= LEVEL else "")
    return marks


def best_prior(row: Row) -> str | None:
    """The prior whose samples have the lowest mean Fréchet distance, of those that the most seeds have; None without such a number."""
    found = {prior: values for prior in row.priors() if (values := numbers(row, column("samples", "frechet"), prior))}
    return min(found, key=lambda prior: (-len(found[prior]), mean(found[prior]))) if found else None


def with_best_prior(row: Row) -> Row:
    """The row with the numbers of samples from its best prior again, as the group "best_prior"."""
    prior = best_prior(row)
    if prior is None:
        return row
    entries = []
    for entry in row.entries:
        best = {q._replace(group="best_prior", prior=None): value for q, value in entry.metrics.items() if q.prior == prior}
        entries.append(replace(entry, metrics=entry.metrics | best))
    return replace(row, entries=entries)
