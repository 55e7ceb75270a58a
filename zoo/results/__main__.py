"""Keeps the published numbers.

    python -m zoo.results add RUN…            # rows of zoo/results/<data>.json, from what zoo.train and zoo.evaluate wrote
    python -m zoo.results make compare        # trains, evaluates, adds and compares all runs of experiment=compare, and
                                              # renews the tables of the zoo's own pages; `make results`
    python -m zoo.results tables README.md    # renews what stands between <!-- results:NAME --> or <!-- overview:NAME --> and its end

A row says which commands made it, at which commits, on which machine. A row of the same command and seed is replaced.
"""

import argparse
import signal
from pathlib import Path

from zoo.config.messages import user_errors
from zoo.errors import ZooError
from zoo.results.rows import add
from zoo.results.tables import renew


def main() -> None:
    """The command line's entry."""
    parser = argparse.ArgumentParser(prog="python -m zoo.results", description="Keeps the zoo's published numbers.")
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="add evaluated runs")
    adding.add_argument("runs", nargs="+", type=Path)
    adding.add_argument("--name", help="of the file in zoo/results/ (default: that of the data)")
    commands.add_parser("make", help="train and publish an experiment that sweeps").add_argument("experiment")
    commands.add_parser("tables", help="renew the tables of a Markdown file").add_argument("file", type=Path)
    arguments = parser.parse_args()
    with user_errors("train"):
        if arguments.command == "add":
            add(arguments.runs, arguments.name)
        elif arguments.command == "make":
            from zoo.results.making import make  # imports torch
            from zoo.sweeps.scheduler import SIGNALS, exit_on_signal

            for number in SIGNALS:
                signal.signal(number, exit_on_signal)
            make(arguments.experiment)
        elif not arguments.file.is_file():
            raise ZooError(f"There is no file {arguments.file}; name a Markdown file.")
        else:
            renew(arguments.file)


if __name__ == "__main__":
    main()
