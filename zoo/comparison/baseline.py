"""The zoo's published numbers as rows of a comparison: zoo/results/<data>.json."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.comparison.comparable import describe_differences, differences, facts_of_test, total_cost
from zoo.comparison.labels import Settings, groups, labels_of, overrides_of
from zoo.comparison.parts import Entry, Row

HERE = Path(__file__).parent.parent / "results"


def rows_of(name: str) -> list[dict[str, Any]]:
    """What is published in one file, usually of one data set: a dict for each run."""
    path = HERE / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else []


def published(rows: list[dict[str, Any]], prefix: str = "") -> list[Row]:
    """Published numbers of one command and several seeds as one row, called by what tells its command from the others."""
    by_command = groups(rows, lambda row: row["command"])
    labels = labels_of([Settings(seeds[0]["model"], {}, overrides_of(seeds[0]["command"])) for seeds in by_command])
    names = [f"{prefix}{label}" for label in labels]
    return [Row(name, [entry_of(row, name) for row in seeds], published=True) for name, seeds in zip(names, by_command, strict=True)]


def entry_of(row: dict[str, Any], name: str = "") -> Entry:
    """A published run, by the name that it has in its comparison."""
    facts, cost = facts_of_test(row, None), row["cost"]
    training = {name.removeprefix("train/"): value for name, value in cost.items() if name.startswith("train/")}
    training |= {name: row[name] for name in ("images_seen", "parameters") if name in row}
    return Entry(
        folder=None,
        name=name,
        status="finished",
        command=f"{row['command']} seed={row['seed']}",
        seed=row["seed"],
        model=row["model"],
        data=row["data"],
        metrics=facts.numbers,
        cost=total_cost(training, {name: value for name, value in cost.items() if not name.startswith("train/")}),
        versions=row["trained_with"],
        evaluated=row["versions"],
        measured=facts.measured,
        left_out=facts.left_out,
    )


def beside(rows: list[Row], split: str, force: bool, notes: list[str]) -> list[Row]:
    """The published rows of the same data that may stand beside these; `notes` says why others may not.

    Where rows of several files have one label, it tells the file, too: "zoo: vae file=compare".
    """
    ours = [entry for row in rows for entry in row.entries]
    data = {entry.data for entry in ours}
    files = {path.stem: [row for row in rows_of(path.stem) if row["data"] in data] for path in sorted(HERE.glob("*.json"))}
    theirs = [(name, row) for name, rows in files.items() for row in published(rows, "zoo: ")]
    if not theirs:
        notes.append(f"The zoo has published nothing on {', '.join(sorted(data))}.")
    elif split != "test":
        notes.append(
            "The zoo's rows are of the test split and these numbers of the validation split; evaluate the runs with "
            "python -m zoo.evaluate run=RUN, and they can stand side by side."
        )
        return []
    fitting, refused = [], []
    for name, row in theirs:
        found = differences([*ours, *(replace(entry, name="the zoo's") for entry in row.entries)])
        refused += [describe_differences(found)] if found and not force else []
        fitting += [(row, Settings(row.label, {}, {"file": name}))] if force or not found else []
    for same in groups(refused, str):
        notes.append(f"{len(same)} of the zoo's rows cannot be set beside these: {same[0]}.")
    labels = labels_of([settings for _, settings in fitting])
    return [
        replace(row, label=label, entries=[replace(entry, name=label) for entry in row.entries])
        for label, (row, _) in zip(labels, fitting, strict=True)
    ]
