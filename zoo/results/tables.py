"""Markdown tables of published rows, by the code that makes those of a comparison, and the pages that they stand in."""

import math
import re
from pathlib import Path
from statistics import mean
from typing import Any

from zoo.comparison import baseline
from zoo.comparison.aggregate import Line, best_prior, by_model, by_prior, numbers, table, with_best_prior
from zoo.comparison.baseline import published, rows_of
from zoo.comparison.columns import CODES, EDITS, MODELS, SAMPLES, SUMMARY, TRANSFER
from zoo.comparison.exports import markdown_of
from zoo.comparison.labels import groups
from zoo.results.rows import write

BLOCK = re.compile(r"(<!-- (results|overview):(\S+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def renew_pages() -> None:
    """Makes the tables of the zoo's own pages anew, those that a checkout has. Raises ZooError where that is not allowed."""
    for page in (baseline.HERE.parents[1] / "README.md", baseline.HERE / "README.md"):
        if page.is_file():
            renew(page)


def renew(page: Path) -> None:
    """Makes the tables of a Markdown file anew. Raises ZooError where that is not allowed."""
    text = page.read_text()
    if text != (renewed := with_tables(text)):
        write(page, renewed)
        print(f"{page} has new tables.")


def with_tables(text: str) -> str:
    """The Markdown text with its tables made anew from the published rows."""
    makers = {"results": markdown, "overview": overview}
    return BLOCK.sub(lambda found: found.group(1) + makers[found.group(2)](rows_of(found.group(3))) + found.group(4), text)


def markdown(rows: list[dict[str, Any]]) -> str:
    """All tables of one data set's rows."""
    if not rows:
        return ""
    lines = published(rows)
    tables = [by_prior("", SAMPLES, lines), *(by_model("", columns, lines) for columns in (MODELS, CODES, EDITS, TRANSFER))]
    by_command = groups(rows, lambda row: row["command"])
    commands = "".join(f"    {seeds[0]['command']}   # {said(seeds)}\n" for seeds in by_command)
    return "\n" + "\n".join([*(markdown_of(table, marked=False) for table in tables if table), commands]) + "\n"


def overview(rows: list[dict[str, Any]]) -> str:
    """One table with a line for each command: samples from the best prior, reconstructions, codes, cost; the best samples first."""
    found = [with_best_prior(row) for row in published(rows)]
    found.sort(key=lambda row: mean(numbers(row, SUMMARY[0]) or [math.inf]))
    lines: list[Line] = [((row.label, best_prior(row) or "–"), [numbers(row, column) for column in SUMMARY]) for row in found]
    if not lines:
        return ""
    summary = table("", ["model", "best prior"], SUMMARY, lines)
    return f"\n{markdown_of(summary, marked=False)}\n" if summary else ""


def said(seeds: list[dict[str, Any]]) -> str:
    """What a command's numbers rest on: seeds, and the commits it was trained and measured at."""
    seed = ",".join(str(row["seed"]) for row in seeds)
    trained, measured = ("/".join(sorted({row[key]["commit"] for row in seeds})) for key in ("trained_with", "versions"))
    return f"seed={seed}; trained at {trained}, measured at {measured}"
