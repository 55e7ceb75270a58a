"""Keeps the published numbers.

    python -m zoo.results add RUN…            # rows of zoo/results/<data>.json, from what zoo.train and zoo.evaluate wrote
    python -m zoo.results tables README.md    # renews the tables between <!-- results:NAME --> and <!-- /results -->

A row says which commands made it, at which commits, on which machine. A row of the same command and seed is replaced.
"""

import argparse
import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.comparison.baseline import HERE, entry_of, rows_of
from zoo.comparison.comparable import differences, sentence
from zoo.comparison.settings import PRIVATE
from zoo.data.files import write_atomically
from zoo.errors import ZooError
from zoo.evaluation.report import read_json
from zoo.results.tables import markdown

BLOCK = re.compile(r"(<!-- results:(\S+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def main() -> None:
    """The command line's entry."""
    parser = argparse.ArgumentParser(prog="python -m zoo.results", description="Keeps the zoo's published numbers.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("add", help="add evaluated runs").add_argument("runs", nargs="+", type=Path)
    verbs.add_parser("tables", help="renew the tables of a Markdown file").add_argument("file", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.verb == "add":
            for run in arguments.runs:
                add(run)
        elif not arguments.file.is_file():
            raise ZooError(f"There is no file {arguments.file}; name a Markdown file.")
        else:
            text = with_tables(arguments.file.read_text())
            write_atomically(arguments.file, lambda file: file.write(text.encode()))
    except ZooError as error:
        print(f"zoo: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def add(run: Path) -> None:
    """Adds or replaces the row of an evaluated run. Raises ZooError if it was not evaluated, or not as the other rows were."""
    row = row_of(run)
    path = HERE / f"{row['data']}.json"
    for other in rows_of(row["data"]):
        if found := differences([entry_of(other), replace(entry_of(row), name=str(run))]):
            raise ZooError(f"{run} cannot be published beside '{other['command']}': {sentence(found)}.")
    rows = [other for other in rows_of(row["data"]) if (other["command"], other["seed"]) != (row["command"], row["seed"])]
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


def with_tables(text: str) -> str:
    """The Markdown text with its tables made anew from the published rows."""
    return BLOCK.sub(lambda found: found.group(1) + markdown(rows_of(found.group(2))) + found.group(3), text)


if __name__ == "__main__":
    main()
