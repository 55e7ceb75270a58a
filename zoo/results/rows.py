"""From an evaluated run to a published row: zoo/results/<name>.json."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.comparison.baseline import HERE, entry_of, rows_of
from zoo.comparison.comparable import differences, sentence
from zoo.comparison.settings import PRIVATE
from zoo.data.files import write_atomically
from zoo.errors import ZooError
from zoo.evaluation.report import read_json


def add(run: Path, name: str | None = None) -> None:
    """Adds or replaces the row of an evaluated run in `name`.json, by default that of its data.

    Raises ZooError if it was not evaluated, or not as the other rows there were.
    """
    row = row_of(run)
    name = name or row["data"]
    path = HERE / f"{name}.json"
    for other in rows_of(name):
        if found := differences([entry_of(other), replace(entry_of(row), name=str(run))]):
            raise ZooError(f"{run} cannot be published beside '{other['command']}': {sentence(found)}.")
    rows = [other for other in rows_of(name) if (other["command"], other["seed"]) != (row["command"], row["seed"])]
    rows.append(row)
    rows.sort(key=lambda row: (row["command"], row["seed"]))
    text = json.dumps(rows, indent=1) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def row_of(run: Path) -> dict[str, Any]:
    """The row of a run, without anything that is private to the machine it ran on."""
    for name in ("evaluation.json", "cost.json"):
        if not (run / name).is_file():
            raise ZooError(f"{run} has no {name}; evaluate it first with python -m zoo.evaluate run={run}.")
    evaluation = read_json(run / "evaluation.json")
    if "; then resume=" in evaluation["command"]:
        raise ZooError(f"{run} was resumed with other settings, so no single command makes it; publish runs that were trained in one way.")
    if not is_evaluated(run):
        raise ZooError(f"{run} was trained further after it was evaluated; evaluate it again with python -m zoo.evaluate run={run}.")
    overrides = [part for part in shlex.split(evaluation["command"])[3:] if not part.startswith(PRIVATE)]
    overrides = [re.sub(r"^data\.root=.*", "data.root=DIR", re.sub(r"^pretrain\.run=.*", "pretrain.run=RUN", part)) for part in overrides]
    settings = [part.removeprefix("model.") for part in overrides if part.startswith("model.")]
    kept = ("model", "data", "seed", "images_seen", "parameters", "latent_dim", "measured", "features", "metrics")
    return {
        "label": " ".join([evaluation["model"], *settings]),
        "command": " ".join(["python -m zoo.train", *overrides]),
        "evaluation": "python -m zoo.evaluate run=RUN",
        **{key: evaluation[key] for key in (*kept, "trained_with", "versions")},
        "cost": read_json(run / "cost.json"),
    }


def is_evaluated(run: Path) -> bool:
    """Whether a run has been evaluated to the end (cost.json comes last) since it was trained."""
    if not (run / "cost.json").is_file():
        return False
    return read_json(run / "evaluation.json")["images_seen"] == read_json(run / "summary.json")["images_seen"]
