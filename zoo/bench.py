"""Measures what the zoo promises: how fast it reads and trains, what it adds to a bare PyTorch loop, what one loss for
all parameter groups and flows cost.

    python -m zoo.bench                                      # all tables, a few minutes
    python -m zoo.bench sections=loader out=bench.json
    python -m zoo.bench sections=training models=[vae] sizes=[64,256] compile=true

Compare ratios and the figures of one run with each other, not the figures of two machines.
"""

import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Column, Table

from zoo.config.app import run_command
from zoo.config.check import check
from zoo.config.instantiate import conf_dir
from zoo.config.schema import BenchSettings
from zoo.errors import ZooError, nearest
from zoo.files import write_json
from zoo.runs.provenance import versions

if TYPE_CHECKING:
    from zoo.benchmarks.measure import BenchmarkResult

BATCH_SIZE = 512  # of the loaders
SECTIONS = ("memory", "loader", "overhead", "games", "flows", "training")  # in the order in which they are measured


def main() -> None:
    run_command(bench, "bench")


def bench(config: DictConfig) -> dict[str, Any]:
    """Measures, prints and returns the tables; writes them to `out`. Raises ZooError before any work for settings that do not fit."""
    settings = check(config, BenchSettings)
    sections, models, out = selected(settings)

    import torch

    from zoo import hardware
    from zoo.benchmarks import flow_steps, games
    from zoo.benchmarks.loading import measure_loaders, measure_memory
    from zoo.benchmarks.measure import RandomImages, machine, threads
    from zoo.benchmarks.steps import measure_overhead, measure_training
    from zoo.data.store import prepare

    warnings.filterwarnings("ignore", module="pytorch_lightning|torch")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    if not torch.cuda.is_available():
        hardware.keep_freed_memory()  # as zoo.train does; the bare loop gains as much
    console, notes = Console(), Console(stderr=True)

    def print_progress(sentence: str) -> None:
        notes.print(f"[dim]{sentence} …", highlight=False)

    count = settings.threads or torch.get_num_threads()
    found: dict[str, Any] = {"machine": machine() | {"threads": count, "versions": versions()}, "settings": settings.model_dump()}
    console.print(headline(found["machine"]), highlight=False, soft_wrap=True)
    if count > 1 and found["machine"]["load_average"] > 0.5:
        print_progress(
            "other work runs on this machine, which slows several threads down several times over: better wait, or give threads=1"
        )
    with tempfile.TemporaryDirectory(prefix="zoo-bench-") as temporary, threads(count):
        folder = Path(temporary)
        if {"memory", "loader", "overhead"} & sections:
            print_progress(f"writing a store of {settings.images:,} random images of 3×64×64")
            store = prepare(RandomImages(settings.images), folder / "cache")
        for section in (name for name in SECTIONS if name in sections):
            if section == "memory":
                results = measure_memory(store.path, BATCH_SIZE)
                title = f"Memory: an epoch from the memory-mapped store, batch {BATCH_SIZE}"
            elif section == "loader":
                results = measure_loaders(store, BATCH_SIZE, settings.seconds, settings.jpegs, print_progress)
                title = f"Loader: 3×64×64, batch {BATCH_SIZE}, one core; fastest pass"
            elif section == "overhead":
                results = measure_overhead(settings.images, folder / "cache", folder, settings.batch_size, settings.seconds, print_progress)
                title = f"Trainer: batch {settings.batch_size}, {count} threads; medians"
            elif section == "games":
                results = games.measure_games(6 * settings.seconds, print_progress)
                title = f"Adversarial step: batch {games.BATCH_SIZE}, {count} threads; medians"
            elif section == "flows":
                results = flow_steps.measure_flows(6 * settings.seconds, settings.compile, print_progress)
                title = "Flows: one thread; medians"
            else:
                rows = measure_training(models, settings.sizes, settings.batch_size, settings.seconds, settings.compile, print_progress)
                found[section] = rows
                console.print(training_table(rows, count))
                continue
            found[section] = {result.name: {**result._asdict(), "met": result.met} for result in results}
            console.print(figure_table(title, results))
    if out is not None:
        write_json(out, found)
        console.print(f"{out}: the same numbers", highlight=False, soft_wrap=True)
    return found


def selected(settings: BenchSettings) -> tuple[set[str], list[str], Path | None]:
    """The sections, models and output file that are asked for. Raises ZooError."""
    asked = [settings.sections] if isinstance(settings.sections, str) else settings.sections
    for name in asked:
        if name not in SECTIONS:
            raise ZooError(f"sections={name} cannot be measured; {nearest(str(name), list(SECTIONS))}")
    known = sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml") if path.stem != "custom")
    models = known if settings.models is None else [settings.models] if isinstance(settings.models, str) else settings.models
    for name in models:
        if name not in known:
            raise ZooError(f"There is no model '{name}'; {nearest(str(name), known)}")
    smallest = max(BATCH_SIZE, settings.batch_size)
    if settings.images < smallest:
        raise ZooError(f"images={settings.images} do not fill one batch; give at least {smallest}.")
    out = None if settings.out is None else Path(settings.out)
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ZooError(f"out={out} cannot be written: it must be a file in a folder that is there.")
    return set(asked), models, out


def headline(about: dict[str, Any]) -> str:
    versions = about["versions"]
    parts = [about["cpu"], f"{about['cores']} cores", f"{about['threads']} threads", about["gpu"] or "no GPU"]
    parts += [f"torch {versions['torch']}", f"zoo {versions['commit']}", f"load {about['load_average']}"]
    return ", ".join(parts)


def number(value: float | None) -> str:
    """Three significant digits, with thousands separators; a dash for what was not measured."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def answer(met: bool | None) -> str:
    """ "yes", "no", or nothing without a target."""
    return "" if met is None else "[green]yes" if met else "[red]no"


def figure_table(title: str, results: "list[BenchmarkResult]") -> Table:
    medians = any(result.median is not None for result in results)
    numbers = (Column(heading, justify="right") for heading in ("figure", "median")[: 1 + medians])
    table = Table("", *numbers, "unit", "target", "met", title=title, title_justify="left")
    for result in results:
        goal = "" if result.goal is None else f"{'≥' if result.at_least else '≤'} {number(result.goal)}"
        middle = [number(result.median)] if medians else []
        table.add_row(result.what, number(result.value), *middle, result.unit, goal, answer(result.met))
    return table


def training_table(rows: list[dict[str, Any]], threads: int) -> Table:
    headings = (Column(heading, justify="right") for heading in ("batch", "images/s", "ms/step", "peak MiB"))
    table = Table("model", "pixels", "mode", *headings, "target", title_justify="left", caption_justify="left")
    table.title = f"Training: random batches, {threads} threads; median step"
    notes = []  # on what could not be built
    for row in rows:
        if "note" in row:
            notes.append(f"{row['model']}, {row['image_size']} pixels: {row['note']}")
            continue
        numbers = (number(row[key]) for key in ("images_per_second", "ms_per_step", "peak_memory_mib"))
        goal = "" if row["goal_images_per_second"] is None else f"≥ {number(row['goal_images_per_second'])}: {answer(row['met'])}"
        table.add_row(row["model"], str(row["image_size"]), row["mode"], str(row["batch_size"]), *numbers, goal)
    table.caption = "\n".join(notes) or None
    return table


if __name__ == "__main__":
    main()
