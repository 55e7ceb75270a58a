"""The numbers of a run in the terminal."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from zoo.runs.layout import COST
from zoo.runs.measurements import Measurement, flat_name
from zoo.runs.results_file import ResultsFile
from zoo.runs.wandb_files import shown_path


def print_metrics(console: Console, title: str, measurements: list[Measurement], numbers: dict[str, float]) -> None:
    """Prints measurements and other numbers: those of samples as one column per prior, the others one below the other."""
    by_prior: dict[str, dict[str, float]] = {}
    table = Table("metric", Column("value", justify="right"), title=title)
    for one in measurements:
        name = flat_name(replace(one, prior=None, split=""))
        if one.prior is not None:
            by_prior.setdefault(one.prior, {})[name] = one.value
        elif one.item is None:
            table.add_row(name, f"{one.value:,.5g}")
    for name, value in numbers.items():
        table.add_row(name, f"{value:,.5g}")
    console.print(table)
    if by_prior:
        table = Table("metric", *(Column(prior, justify="right") for prior in by_prior))
        for metric in dict.fromkeys(metric for row in by_prior.values() for metric in row):
            table.add_row(metric, *(f"{row[metric]:,.5g}" if metric in row else "–" for row in by_prior.values()))
        console.print(table)


def show(out: Path, results: ResultsFile, spent: dict[str, Any]) -> None:
    """Prints the numbers and where everything lies."""
    content = results.content
    console = Console()
    title = f"{content['model']} on {content['data']}, {content['measured']['split']} split, {content['images_seen']:,} images seen"
    print_metrics(console, title, results.measurements, {name: value for name, value in spent.items() if not isinstance(value, str)})
    for network in content["features"].values():
        accuracy = f", accuracy {network['accuracy']:.4f}" if "accuracy" in network else ""
        console.print(f"features:  {network['name']}, {network['dim']} dimensions{accuracy}", highlight=False)
    for note in content["notes"]:
        console.print(f"note:      {note}", soft_wrap=True, highlight=False)
    for what, where in (("numbers", results.path.name), ("cost", COST), ("pictures", "evaluation/")):
        console.print(f"{what + ':':10} {shown_path(out)}/{where}", soft_wrap=True, highlight=False)
