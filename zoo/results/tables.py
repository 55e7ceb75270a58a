"""Markdown tables of published rows, by the code that makes those of a comparison, and the pages that they stand in."""

import re
from pathlib import Path
from typing import Any

from zoo.comparison import baseline
from zoo.comparison.aggregate import best_priors, numbers_of, table
from zoo.comparison.baseline import published, rows_of
from zoo.comparison.columns import TABLES
from zoo.comparison.exports import markdown_of
from zoo.comparison.labels import groups
from zoo.results.rows import write

SHOWN = ("Samples", "Reconstructions, interpolations, likelihood", "Codes", "Attribute edits", "Attribute transfer")
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
    numbers = numbers_of(published(rows))
    tables = [table("", TABLES[title], numbers) for title in SHOWN]
    by_command = groups(rows, lambda row: row["command"])
    commands = "".join(f"    {seeds[0]['command']}   # {said(seeds)}\n" for seeds in by_command)
    return "\n" + "\n".join([*(markdown_of(table, marked=False) for table in tables if len(table.cells)), commands]) + "\n"


def overview(rows: list[dict[str, Any]]) -> str:
    """One table with a line for each command: samples from the best prior, reconstructions, codes, cost; the best samples first."""
    numbers = numbers_of(published(rows))
    summary = table("", TABLES["Summary"], numbers)
    if not len(summary.cells):
        return ""
    best = best_priors(numbers)
    cells = summary.cells.assign(prior=[best.get(row, "–") for row in summary.cells.index])
    first = TABLES["Summary"][0].header
    cells = cells.sort_values((first, "mean"), kind="stable") if first in cells else cells
    cells = cells.set_index("prior", append=True).rename_axis(["model", "best prior"])
    return f"\n{markdown_of(summary._replace(cells=cells), marked=False)}\n"


def said(seeds: list[dict[str, Any]]) -> str:
    """What a command's numbers rest on: seeds, and the commits it was trained and measured at."""
    seed = ",".join(str(row["seed"]) for row in seeds)
    trained, measured = ("/".join(sorted({row[key]["commit"] for row in seeds})) for key in ("trained_with", "versions"))
    return f"seed={seed}; trained at {trained}, measured at {measured}"
