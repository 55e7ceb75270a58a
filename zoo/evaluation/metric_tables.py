"""The numbers of a run in the terminal."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from zoo.evaluation.results_file import Book
from zoo.runs.wandb_files import shown_path


def print_metrics(console: Console, title: str, metrics: dict[str, float]) -> None:
    """Prints numbers: those of samples as one row per prior, the others one below the other."""
    by_prior: dict[str, dict[str, float]] = {}
    table = Table("metric", "value", title=title)
    table.columns[1].justify = "right"
    for name, value in metrics.items():
        if name.startswith("samples/"):
            _, prior, metric = name.split("/", 2)
            by_prior.setdefault(prior, {})[metric] = value
        elif name.count("/") < 2:  # not the single attributes
            table.add_row(name, f"{value:,.5g}")
    console.print(table)
    if by_prior:
        columns = list(dict.fromkeys(metric for row in by_prior.values() for metric in row))
        table = Table("samples", *by_prior)
        for metric in columns:
            table.add_row(metric, *(f"{row[metric]:,.5g}" if metric in row else "–" for row in by_prior.values()))
        for column in table.columns[1:]:
            column.justify = "right"
        console.print(table)


def show(out: Path, book: Book, spent: dict[str, Any]) -> None:
    """Prints the numbers and where everything lies."""
    content = book.content
    console = Console()
    title = f"{content['model']} on {content['data']}, {content['measured']['split']} split, {content['images_seen']:,} images seen"
    print_metrics(console, title, content["metrics"] | {name: value for name, value in spent.items() if not isinstance(value, str)})
    for network in content["features"].values():
        accuracy = f", accuracy {network['accuracy']:.4f}" if "accuracy" in network else ""
        console.print(f"features:  {network['name']}, {network['dim']} dimensions{accuracy}", highlight=False)
    for note in content["notes"]:
        console.print(f"note:      {note}", soft_wrap=True, highlight=False)
    for what, where in (("numbers", book.path.name), ("cost", "cost.json"), ("pictures", "evaluation/")):
        console.print(f"{what + ':':10} {shown_path(out)}/{where}", soft_wrap=True, highlight=False)
