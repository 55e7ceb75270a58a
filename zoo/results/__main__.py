"""Keeps the published numbers.

    python -m zoo.results add RUN…            # rows of zoo/results/<data>.json, from what zoo.train and zoo.evaluate wrote
    python -m zoo.results make compare        # trains, evaluates, adds and compares all runs of experiment=compare; `make results`
    python -m zoo.results tables README.md    # renews what stands between <!-- results:NAME --> or <!-- overview:NAME --> and its end

A row says which commands made it, at which commits, on which machine. A row of the same command and seed is replaced.
"""

import argparse
import re
import sys
from pathlib import Path

from zoo.comparison.baseline import rows_of
from zoo.data.files import write_atomically
from zoo.errors import ZooError
from zoo.results.rows import add
from zoo.results.tables import markdown, overview

BLOCK = re.compile(r"(<!-- (results|overview):(\S+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def main() -> None:
    """The command line's entry."""
    parser = argparse.ArgumentParser(prog="python -m zoo.results", description="Keeps the zoo's published numbers.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    adding = verbs.add_parser("add", help="add evaluated runs")
    adding.add_argument("runs", nargs="+", type=Path)
    adding.add_argument("--name", help="of the file in zoo/results/ (default: that of the data)")
    verbs.add_parser("make", help="train and publish an experiment that sweeps").add_argument("experiment")
    verbs.add_parser("tables", help="renew the tables of a Markdown file").add_argument("file", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.verb == "add":
            for run in arguments.runs:
                add(run, arguments.name)
        elif arguments.verb == "make":
            from zoo.results.making import make  # imports torch

            make(arguments.experiment)
        elif not arguments.file.is_file():
            raise ZooError(f"There is no file {arguments.file}; name a Markdown file.")
        else:
            text = with_tables(arguments.file.read_text())
            write_atomically(arguments.file, lambda file: file.write(text.encode()))
    except ZooError as error:
        print(f"zoo: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def with_tables(text: str) -> str:
    """The Markdown text with its tables made anew from the published rows."""
    makers = {"results": markdown, "overview": overview}
    return BLOCK.sub(lambda found: found.group(1) + makers[found.group(2)](rows_of(found.group(3))) + found.group(4), text)


if __name__ == "__main__":
    main()
