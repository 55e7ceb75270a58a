"""What is printed when training begins and when it has ended."""

from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.table import Column, Table
from rich.tree import Tree

from zoo.config.schema import ResolvedSettings
from zoo.evaluation.descriptors import METRICS as METRICS_OF
from zoo.models.base import Autoencoder
from zoo.runs.layout import CHECKPOINTS, METRICS, PICTURES, PRETRAIN, SUMMARY
from zoo.runs.measurements import measurements_of
from zoo.runs.wandb_files import shown_path, upload_command

HEADLINES = (
    *(("reconstructions", "mse"), ("reconstructions", "psnr"), ("samples", "frechet"), ("samples", "precision"), ("samples", "recall")),
    *(("representation", "linear_accuracy"), ("representation", "linear_balanced_accuracy")),
)


@rank_zero_only
def print_start(settings: ResolvedSettings, model: Autoencoder, command: str) -> None:
    """Prints what is trained on what, and the settings that were given; with `verbose` all settings, and the parts of the model."""
    trainer, parameters = settings.trainer, sum(parameter.numel() for parameter in model.parameters())
    devices = f"{trainer.world_size} × {trainer.accelerator}" if trainer.world_size > 1 else trainer.accelerator
    size = "×".join(map(str, model.image_shape))
    print(f"  {settings.max_images:,} images of {size}, {settings.batch_size} a step, on {devices} ({trainer.precision})")
    print(f"  {type(model).__name__} with {parameters:,} parameters, latent_dim {model.latent_dim}")
    if given := command.removeprefix("python -m zoo.train").strip():
        print(f"  settings: {given}", flush=True)
    if settings.verbose:
        Console().print(grown(Tree("[bold]configuration"), settings.plain()))
        table = Table("part", "parameters")
        table.columns[1].justify = "right"
        for name, part in model.named_children():
            table.add_row(f"{name}: {type(part).__name__}", f"{sum(parameter.numel() for parameter in part.parameters()):,}")
        Console().print(table)


def grown(tree: Tree, node: dict[str, Any]) -> Tree:
    """The tree with the settings of a node."""
    for key, value in node.items():
        if isinstance(value, dict):
            grown(tree.add(f"[bold]{key}"), value)
        else:
            tree.add(f"{key}: {value}")
    return tree


def print_summary(run: Path, summary: dict[str, Any], averaged: bool) -> None:
    """Prints the headline numbers of a run's summary.json, of its last weights or averaged ones; where everything lies; what comes next."""
    console, shown = Console(), shown_path(run)
    which = "averaged weights" if averaged else "last weights"
    console.print(
        f"{summary['model']} on {summary['data']}: {summary['images_seen']:,} images seen; validation split, {which}", highlight=False
    )
    table = Table("metric", Column("value", justify="right"))
    for label, value in headlines(summary):
        table.add_row(label, f"{value:,.4g}")
    console.print(table)
    places = [("numbers", f"{SUMMARY} (all of them)"), ("pictures", f"{PICTURES}/"), ("curves", METRICS), ("weights", f"{CHECKPOINTS}/")]
    places += [("profile", path.name) for path in run.glob("fit-profile*")]
    for what, where in places:
        console.print(f"{what + ':':10} {shown}/{where}", soft_wrap=True, highlight=False)
    if upload := upload_command([run]):
        console.print(f"W&B:       logged offline; to upload, run: wandb login && {upload}", soft_wrap=True, highlight=False)
    if run.name != PRETRAIN:
        console.print(
            f"next:      python -m zoo.evaluate run={shown}   (test split), or zoo.generate, zoo.compare", soft_wrap=True, highlight=False
        )


def headlines(summary: dict[str, Any]) -> list[tuple[str, float]]:
    """The numbers to look at first, with arrows to where they are better; of samples those from the model's own prior."""
    measured, found = measurements_of(summary), []
    for group, name in HEADLINES:
        metric = METRICS_OF[group][name]
        one = next((one for one in measured if (one.group, one.metric, one.item) == (group, name, None)), None)
        if one is not None:
            arrow = {"low": "↓", "high": "↑"}.get(str(metric.better), f"→ {metric.better}")
            prior = "" if one.prior is None else f", prior {one.prior}"
            found.append((f"{group}: {metric.label}{prior} {arrow}", one.value * metric.factor))
    if not found:
        arrows = {"val/loss": "↓", "val/mse": "↓", "val/psnr": "↑"}
        found = [(f"{name} {arrow}", summary["metrics"][name]) for name, arrow in arrows.items() if name in summary["metrics"]]
    rate = summary["images_per_second"]
    return found + ([("training images/s", rate)] if rate else [])
