"""A comparison as files: compare.csv, a line for each row and metric, and compare.md, its tables in Markdown."""

from pathlib import Path
from statistics import mean, stdev

from pandas import DataFrame

from zoo.comparison.parts import Comparison, Table
from zoo.files import write_atomically
from zoo.runs.measurements import Quantity, name_of

MARKS = {"best": " *", "noise": " ~", "": ""}
LEGEND = (
    "**Bold \\*** is best; ~ cannot be told from the best (Welch's t-test over 3 seeds or more, p ≥ 0.05); "
    "mean ± standard deviation over n seeds."
)


def write_csv(comparison: Comparison, path: Path) -> None:
    """Columns row, metric, mean, std (empty of one seed), n, values; metrics by their full name, costs as cost/…; nothing rounded."""
    seeds = comparison.numbers.groupby(["row", *Quantity._fields], sort=False).value.agg(list).reset_index()
    quantities = seeds[list(Quantity._fields)].itertuples(index=False)
    seeds["metric"] = [name_of(Quantity._make(part or None for part in parts)) for parts in quantities]
    seeds["mean"] = seeds.value.map(mean)
    seeds["std"] = seeds.value.map(lambda values: stdev(values) if len(values) > 1 else None)
    seeds["n"] = seeds.value.map(len)
    seeds["values"] = seeds.value.map(lambda values: " ".join(map(str, values)))
    write_atomically(path, seeds[["row", "metric", "mean", "std", "n", "values"]].to_csv(index=False))


def write_markdown(comparison: Comparison, path: Path) -> None:
    """What the terminal shows, as Markdown."""
    parts = [f"# {plain(comparison.title)}\n"]
    if comparison.protocol:
        parts.append("\n".join(f"- {plain(fact)}: {plain(value)}" for fact, value in comparison.protocol.items()) + "\n")
    parts += [f"## {table.title}\n\n{markdown_of(table)}" for table in comparison.tables]
    if comparison.tables:
        parts.append(f"{LEGEND}\n")
    if len(comparison.differing.columns):
        parts.append(f"## Settings that differ\n\n{grid(comparison.differing.T.rename_axis('setting'), '---')}")
    if comparison.others:
        parts.append(f"## Not finished\n\n{grid(comparison.unfinished, '---')}")
    if comparison.notes:
        parts.append("## Notes\n\n" + "".join(f"- {plain(note)}\n" for note in comparison.notes))
    parts.append(f"    {comparison.command}\n")
    write_atomically(path, "\n".join(parts))


def markdown_of(table: Table, marked: bool = True) -> str:
    """One Markdown table; with marks and the number of seeds, or as the README has it."""

    def written(text: str, mark: str) -> str:
        return f"**{text} \\***" if marked and mark == "best" else text + MARKS[mark] if marked else text

    return grid(table.shown(written, count=marked))


def grid(frame: DataFrame, rule: str = "---:") -> str:
    """A frame of texts, with its index, as lines of Markdown; `rule` aligns its columns."""
    names = list(frame.index.names)
    rows = frame.reset_index().astype(str).itertuples(index=False)
    lines = [map(plain, (*names, *frame.columns)), ["---:" if name == "n" else "---" for name in names] + [rule] * frame.shape[1]]
    return "".join(f"| {' | '.join(line)} |\n" for line in (*lines, *(map(plain, row) for row in rows)))


def plain(text: str) -> str:
    """Text that stays within its cell."""
    return text.replace("|", "\\|").replace("\n", " ")
