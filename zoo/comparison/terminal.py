"""A comparison in the terminal; readable without colour."""

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from zoo.comparison.exports import MARKS, counts_of
from zoo.comparison.parts import Cell, Comparison

LEGEND = "* best   ~ cannot be told from the best (Welch's t-test over 3 seeds or more, p ≥ 0.05)   n seeds   – not defined"
PLAIN_WIDTH = 160  # characters a line, where the output is no terminal
NAME_WIDTH = 40  # characters of a row's name before it goes on in the next line


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Prints the tables, what all runs share and what differs, the runs that did not finish, and the notes."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, PLAIN_WIDTH)
    console.print(f"[bold]{escape(comparison.title)}", highlight=False)
    if comparison.protocol:
        shared = ", ".join(f"{fact} {value}" for fact, value in comparison.protocol.items())
        console.print(escape(shared), highlight=False, soft_wrap=True)
    for table in comparison.tables:
        names = [(*name, count) for name, count in zip(table.names, counts_of(table), strict=True)]
        headers, cells = [column.header for column in table.columns], [list(map(written, row)) for row in table.cells]
        for grid in grids(table.title, [*table.keys, "n"], headers, names, cells, console.width):
            console.print(grid)
    if comparison.tables:
        console.print(LEGEND, highlight=False, soft_wrap=True)
    if comparison.differing:
        labels = [(row.label,) for row in comparison.rows]
        values = [list(map(escape, row)) for row in zip(*comparison.differing.values(), strict=True)]
        for grid in grids("Settings that differ", ["model"], list(comparison.differing), labels, values, console.width):
            console.print(grid)
    if comparison.others:
        grid = Grid("run", "state", "why, or how far", title="Not finished")
        for entry in comparison.others:
            grid.add_row(escape(entry.name), entry.status, escape(entry.reason))
        console.print(grid)
    for note in comparison.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)


def written(cell: Cell | None) -> str:
    """A cell with its mark; a dash where a method gives no such number."""
    if cell is None:
        return "–  "
    text = f"{cell.text} {MARKS[cell.mark] or ' '}"
    return f"[bold]{text}[/bold]" if cell.mark == "best" else text


def grids(
    title: str, keys: list[str], headers: list[str], names: Sequence[tuple[str, ...]], cells: list[list[str]], width: int
) -> list[Grid]:
    """Rows with names as one grid or, where that is wider than `width`, as several, each with some of the columns."""
    folded = [[textwrap.fill(part, NAME_WIDTH) for part in name] for name in names]
    taken = 1 + sum(3 + max(len(line) for part in column for line in part.split("\n")) for column in zip(keys, *folded, strict=True))
    parts: list[list[int]] = [[]]
    left = width - taken
    for index, header in enumerate(headers):
        need = 3 + max(
            len(part.removeprefix("[bold]").removesuffix("[/bold]")) for part in (*header.split(), *(row[index] for row in cells))
        )
        if parts[-1] and need > left:
            parts.append([])
            left = width - taken
        parts[-1].append(index)
        left -= need
    found = []
    for part in parts:
        grid = Grid(title=title if part is parts[0] else f"{title} (continued)")
        for key in keys:
            grid.add_column(key, no_wrap=True)  # folded already
        for index in part:
            grid.add_column(escape(headers[index]), justify="right")
        for name, row in zip(folded, cells, strict=True):
            grid.add_row(*map(escape, name), *(row[index] for index in part))
        found.append(grid)
    return found
