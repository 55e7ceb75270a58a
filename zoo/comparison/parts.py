"""What a comparison consists of: columns, runs, rows of runs that differ in their seed only, and tables as DataFrames."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pandas import DataFrame

from zoo.runs.measurements import Quantity

ARROWS = {"high": " ↑", "low": " ↓"}


class Column(NamedTuple):
    """One number that runs are compared by."""

    title: str  # "Fréchet"
    quantity: Quantity  # of samples from any prior, without the prior
    better: str | float | None = None  # "high", "low", the value to come near, or None where there is no better
    digits: int = 3
    factor: float = 1

    @property
    def header(self) -> str:
        """The title with an arrow that says what is better."""
        arrow = ARROWS.get(self.better, "") if isinstance(self.better, str) else "" if self.better is None else f" → {self.better:g}"
        return self.title + arrow


@dataclass(frozen=True)
class Entry:
    """One run, as its folder tells."""

    folder: Path | None  # None: one of the zoo's published rows
    name: str  # the folder as the reader knows it: below what was named on the command line
    status: str  # finished, training, interrupted or failed
    reason: str = ""  # why it failed, one sentence
    command: str = ""
    seed: int = 0
    model: str = ""
    data: str = ""
    config: dict[str, Any] = field(default_factory=dict)  # config.yaml
    metrics: dict[Quantity, float] = field(default_factory=dict)  # of the split that is compared
    cost: dict[str, Any] = field(default_factory=dict)  # images_seen, device_hours, parameters, images_per_second, peak_memory_mib, …
    curves: dict[str, list[float]] = field(default_factory=dict)  # metrics.csv: images_seen, hours, val/mse, …; nan where not measured
    image_files: dict[str, Path] = field(default_factory=dict)  # samples, reconstructions, interpolations, edits, transfer: newest PNG
    versions: dict[str, str] = field(default_factory=dict)  # it was trained with
    evaluated: dict[str, str] = field(default_factory=dict)  # versions that its numbers of the test split were measured with
    measured: dict[str, str] = field(default_factory=dict)  # what its numbers rest on: data, image size, split, N, features, …
    left_out: list[str] = field(default_factory=list)  # numbers of another N than that of `metrics`


@dataclass(frozen=True)
class Row:
    """Finished runs that differ in their seed only."""

    label: str  # the model and the settings that tell it from other rows: "vae beta=4"
    entries: list[Entry]  # by seed
    published: bool = False  # one of the zoo's own


class Table(NamedTuple):
    """Rows × columns."""

    title: str
    columns: list[Column]
    # Index: "model", or "model" and "prior". For each column's header, as the first level of columns: mean and std over seeds, n, values
    # (of each seed), mark ("best", "noise" where the best cannot be told from it, or ""), text ("0.123 ± 0.004") and sort_by (what is
    # compared: the mean or, of a value to come near, the mean distance of the seeds to it); nan where a method gives no such number.
    cells: DataFrame

    def shown(self, write: Callable[[str, str], str], count: bool = True) -> DataFrame:
        """The cells as `write` makes them of text and mark, – where there is none; the index tells the number of seeds, too, as "n"."""
        parts = {column.header: self.cells[column.header] for column in self.columns}
        texts = {
            name: [write(*pair) if pair[0] else "–" for pair in zip(part.text, part.mark, strict=True)] for name, part in parts.items()
        }
        frame = DataFrame(texts, index=self.cells.index)
        return frame.set_index(self.counts.rename("n"), append=True) if count else frame

    @property
    def counts(self) -> "pd.Series[int]":
        """The number of seeds of each line."""
        return self.cells.xs("n", axis=1, level=1).max(axis=1).astype(int)


@dataclass(frozen=True)
class Comparison:
    """All that the terminal, the files and the report show."""

    title: str
    rows: list[Row]  # the best first
    numbers: DataFrame  # a line for each run and number: row, run, model, data, seed, the fields of a Quantity ("" for None), value
    tables: list[Table]
    others: list[Entry]  # still training, interrupted, failed
    protocol: dict[str, str]  # what is the same for all: data, image size, split, N, features, …
    differing: DataFrame  # rows × the settings in which they differ, as text
    notes: list[str]  # what was left out and why, one sentence each
    command: str

    def table(self, title: str = "Summary") -> DataFrame:
        """The cells of a table, see `Table`. Raises KeyError if there is no such table."""
        return {table.title: table.cells for table in self.tables}[title]

    @property
    def unfinished(self) -> DataFrame:
        """The other runs, their state, and why or how far they are."""
        found = [(entry.name, entry.status, entry.reason) for entry in self.others]
        return DataFrame(found, columns=["run", "state", "why, or how far"]).set_index("run")
