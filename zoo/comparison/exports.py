"""A comparison as files: compare.csv, a line for each row and metric, and compare.md, its tables in Markdown."""

import csv
import io
from pathlib import Path
from statistics import mean, stdev

from zoo.comparison.parts import Cell, Comparison, Table
from zoo.files import write_atomically
from zoo.runs.measurements import name_of

MARKS = {"best": "*", "noise": "~", "": ""}
LEGEND = (
    "**Bold \\*** is best; ~ cannot be told from the best (Welch's t-test over 3 seeds or more, p ≥ 0.05); "
    "mean ± standard deviation over n seeds."
)


def write_csv(comparison: Comparison, path: Path) -> None:
    """Columns row, metric, mean, std (empty of one seed), n, values; metrics by their full name, costs as cost/…; nothing rounded."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["row", "metric", "mean", "std", "n", "values"])
    for row in comparison.rows:
        numbers = {name_of(quantity): row.values(quantity) for entry in row.entries for quantity in entry.metrics}
        numbers |= {f"cost/{name}": row.costs(name) for entry in row.entries for name in entry.cost}
        for metric, values in numbers.items():
            if values:
                deviation = stdev(values) if len(values) > 1 else ""
                writer.writerow([row.label, metric, mean(values), deviation, len(values), " ".join(map(str, values))])
    write_atomically(path, text.getvalue())


def write_markdown(comparison: Comparison, path: Path) -> None:
    """What the terminal shows, as Markdown."""
    parts = [f"# {plain(comparison.title)}\n"]
    if comparison.protocol:
        parts.append("\n".join(f"- {plain(fact)}: {plain(value)}" for fact, value in comparison.protocol.items()) + "\n")
    parts += [f"## {table.title}\n\n{markdown_of(table)}" for table in comparison.tables]
    if comparison.tables:
        parts.append(f"{LEGEND}\n")
    if comparison.differing:
        lines = [[key, *values] for key, values in comparison.differing.items()]
        parts.append(f"## Settings that differ\n\n{grid(['setting', *(row.label for row in comparison.rows)], lines)}")
    if comparison.others:
        lines = [[entry.name, entry.status, entry.reason] for entry in comparison.others]
        parts.append(f"## Not finished\n\n{grid(['run', 'state', 'why, or how far'], lines)}")
    if comparison.notes:
        parts.append("## Notes\n\n" + "".join(f"- {plain(note)}\n" for note in comparison.notes))
    parts.append(f"    {comparison.command}\n")
    text = "\n".join(parts)
    write_atomically(path, text)


def markdown_of(table: Table, marked: bool = True) -> str:
    """One Markdown table; with marks and the number of seeds, or as the README has it."""
    lines = [
        [*names, *([count] if marked else []), *(written(cell, marked) for cell in cells)]
        for names, count, cells in zip(table.names, counts_of(table), table.cells, strict=True)
    ]
    names = [*table.keys, *(["n"] if marked else [])]
    return grid([*names, *(column.header for column in table.columns)], lines, right=len(names) - marked)


def written(cell: Cell | None, marked: bool) -> str:
    if cell is None:
        return "–"
    text = f"{cell.text} {MARKS[cell.mark]}" if marked and cell.mark else cell.text
    return f"**{text.replace('*', chr(92) + '*')}**" if marked and cell.mark == "best" else text


def counts_of(table: Table) -> list[str]:
    """The number of seeds of each row, as text."""
    return [str(max((cell.count for cell in cells if cell), default="–")) for cells in table.cells]


def grid(headers: list[str], lines: list[list[str]], right: int | None = None) -> str:
    """Lines of a Markdown table; the columns from `right` on are right-aligned."""
    right = len(headers) if right is None else right
    rule = ["---"] * right + ["---:"] * (len(headers) - right)
    rows = [list(map(plain, headers)), rule, *(list(map(plain, line)) for line in lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def plain(text: str) -> str:
    """Text that stays within its cell."""
    return text.replace("|", "\\|").replace("\n", " ")
