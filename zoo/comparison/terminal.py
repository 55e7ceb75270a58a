"""A comparison in the terminal; readable without colour."""

import textwrap

from pandas import DataFrame
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from zoo.comparison.exports import MARKS
from zoo.comparison.parts import Comparison

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
        console.print(*grids(table.title, table.shown(written), console.width), sep="\n")
    if comparison.tables:
        console.print(LEGEND, highlight=False, soft_wrap=True)
    if len(comparison.differing.columns):
        console.print(*grids("Settings that differ", comparison.differing.map(escape).rename_axis("model"), console.width), sep="\n")
    if comparison.others:
        grid = Grid("run", *comparison.unfinished.columns, title="Not finished")
        for row in comparison.unfinished.itertuples():
            grid.add_row(*map(escape, row))
        console.print(grid)
    for note in comparison.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)


def written(text: str, mark: str) -> str:
    """A cell with its mark."""
    text += MARKS[mark] or "  "
    return f"[bold]{text}[/bold]" if mark == "best" else text


def grids(title: str, cells: DataFrame, width: int) -> list[Grid]:
    """A frame of texts with its index as one grid or, where that is wider than `width`, as several, each with some of the columns."""
    names = cells.index.to_frame().astype(str).map(lambda name: textwrap.fill(name, NAME_WIDTH))
    taken = 1 + sum(3 + max(len(line) for name in [key, *names[key]] for line in name.split("\n")) for key in names)
    parts: list[list[str]] = [[]]
    left = width - taken
    for header, column in cells.items():
        need = 3 + max(len(part.removeprefix("[bold]").removesuffix("[/bold]")) for part in (*str(header).split(), *column))
        if parts[-1] and need > left:
            parts.append([])
            left = width - taken
        parts[-1].append(str(header))
        left -= need
    found = []
    for part in parts:
        grid = Grid(title=title if part is parts[0] else f"{title} (continued)")
        for key in names:
            grid.add_column(key, no_wrap=True)  # folded already
        for header in part:
            grid.add_column(escape(header), justify="right")
        for name, row in zip(names.itertuples(index=False), cells[part].itertuples(index=False), strict=True):
            grid.add_row(*map(escape, name), *row)
        found.append(grid)
    return found
