"""From evaluated runs to published rows: zoo/results/<name>.json."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.comparison.baseline import HERE, entry_of, rows_of
from zoo.comparison.comparable import describe_differences, differences
from zoo.comparison.labels import PRIVATE
from zoo.errors import ZooError
from zoo.files import write_atomically
from zoo.runs import records
from zoo.runs.layout import COST, EVALUATION
from zoo.runs.measurements import json_of_records


def add(runs: Sequence[Path], name: str | None = None) -> None:
    """Adds the rows of evaluated runs to `name`.json, by default that of their data, in place of those of the same command and seed.

    Raises:
        ZooError: Some were not evaluated, or not as the rows they would stand beside; the others have been added.
    """
    by_file: dict[str, dict[Path, dict[str, Any]]] = {}
    refused = []
    for run in runs:
        try:
            row = row_of(run)
        except ZooError as error:
            refused.append(str(error))
        else:
            by_file.setdefault(name or row["data"], {})[run] = row
    for file, new in by_file.items():
        old = rows_of(file)
        while found := misfit(new, old):
            run, why = found
            del new[run]
            refused.append(why)
        rows = {key(row): row for row in [*old, *new.values()]}
        if new:
            write(HERE / f"{file}.json", json_of_records([rows[key] for key in sorted(rows)], indent=1))
    if refused:
        raise ZooError(refused[0] + (f" Refused in all: {len(refused)} runs." if len(refused) > 1 else ""))


def key(row: dict[str, Any]) -> tuple[str, int]:
    """What there is one row of."""
    return row["command"], row["seed"]


def misfit(new: dict[Path, dict[str, Any]], old: list[dict[str, Any]]) -> tuple[Path, str] | None:
    """A new row that cannot stand beside the old ones that stay, or beside the new ones before it, and why."""
    replaced = set(map(key, new.values()))
    beside = [(row["command"], entry_of(row, row["model"])) for row in old if key(row) not in replaced]
    for run, row in new.items():
        entry = entry_of(row, str(run))
        for command, other in beside:
            if found := differences([other, entry]):
                return run, f"{run} cannot be published beside '{command}': {describe_differences(found)}."
        beside.append((row["command"], entry))
    return None


def write(path: Path, text: str) -> None:
    """Writes a published file whole. Raises ZooError where that is not allowed."""
    try:
        write_atomically(path, text)
    except OSError as error:
        raise ZooError(f"{path} cannot be written ({os.strerror(error.errno or 0)}); publish from a checkout of your own.") from error


def row_of(run: Path) -> dict[str, Any]:
    """The row of a run, without anything that is private to the machine it ran on."""
    found: dict[str, dict[str, Any]] = {}
    for name in (EVALUATION, COST):
        found[name], fault = records.read(run / name)
        if not (run / name).is_file():
            raise ZooError(f"{run} has no {name}; evaluate it first with python -m zoo.evaluate run={run}.")
        if fault:
            raise ZooError(f"{run / name} {fault}; it is not published.")
    evaluation = found[EVALUATION]
    if "; then resume=" in evaluation["command"]:
        raise ZooError(f"{run} was resumed with other settings, so no single command makes it; publish runs that were trained in one way.")
    if not is_evaluated(run):
        raise ZooError(f"{run} was trained further after it was evaluated; evaluate it again with python -m zoo.evaluate run={run}.")
    overrides = [part for part in shlex.split(evaluation["command"])[3:] if not part.startswith(PRIVATE)]
    overrides = [re.sub(r"^data\.root=.*", "data.root=DIR", re.sub(r"^pretrain\.run=.*", "pretrain.run=RUN", part)) for part in overrides]
    public = ("model", "data", "seed", "images_seen", "parameters", "latent_dim", "measured", "features", "measurements")
    return {
        "command": " ".join(["python -m zoo.train", *overrides]),
        "evaluation": "python -m zoo.evaluate run=RUN",
        **{key: evaluation[key] for key in (*public, "trained_with", "versions")},
        "cost": found[COST],
    }


def is_evaluated(run: Path) -> bool:
    """Whether a run has been evaluated to the end (cost.json comes last) since it was trained."""
    if not (run / COST).is_file():
        return False
    return records.read(run / EVALUATION)[0].get("images_seen") == records.read_summary(run).get("images_seen")
