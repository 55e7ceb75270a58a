"""What a comparison consists of: columns, runs, rows of runs that differ in their seed only."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

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

    def values(self, quantity: Quantity) -> list[float]:
        """The number of each seed that has it."""
        return [entry.metrics[quantity] for entry in self.entries if quantity in entry.metrics]

    def costs(self, name: str) -> list[float]:
        """A number of what training cost, of each seed that has it."""
        return [float(entry.cost[name]) for entry in self.entries if isinstance(entry.cost.get(name), int | float)]

    def priors(self) -> list[str]:
        """The priors its samples were drawn from, in order."""
        return list(dict.fromkeys(q.prior for entry in self.entries for q in entry.metrics if q.group == "samples" and q.prior))


@dataclass(frozen=True)
class Cell:
    """A number of a row: over seeds, and how it stands among the others of its column."""

    mean: float
    deviation: float | None  # standard deviation over seeds; None of one seed
    count: int
    mark: str = ""  # "best", "noise" (no different from the best at p = 0.05, Welch's t-test, of 3 seeds or more), or ""
    text: str = ""  # "0.123 ± 0.004"
    distance: float | None = None  # of a value to come near, the mean distance of the seeds to it; None in other columns


@dataclass(frozen=True)
class Table:
    """Rows × columns; cells[r][c] is None where a method gives no such number."""

    title: str
    keys: list[str]  # what names a row: ["model"] or ["model", "prior"]
    names: list[tuple[str, ...]]  # of each row, as many as keys
    columns: list[Column]
    cells: list[list[Cell | None]]


@dataclass(frozen=True)
class Comparison:
    """All that the table, the files and the report show."""

    title: str
    rows: list[Row]  # the best first
    tables: list[Table]
    others: list[Entry]  # still training, interrupted, failed
    protocol: dict[str, str]  # what is the same for all: data, image size, split, N, features, …
    differing: dict[str, list[str]]  # setting -> its value in each row, where rows differ
    notes: list[str]  # what was left out and why, one sentence each
    command: str
