"""What is printed when training begins and when it has ended."""

from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from zoo.config.schema import ResolvedSettings
from zoo.evaluation.metric_tables import print_metrics
from zoo.models.base import Autoencoder
from zoo.runs.layout import CHECKPOINTS, METRICS, PICTURES, SUMMARY
from zoo.runs.measurements import measurements_of
from zoo.runs.wandb_files import shown_path, upload_command


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
    """Prints the final numbers of a run's summary.json, of its last weights or averaged ones, and where everything lies."""
    console, metrics, rate = Console(), summary["metrics"], summary["images_per_second"]
    numbers = {name.removeprefix("val/"): value for name, value in metrics.items()} | ({"training images/s": rate} if rate else {})
    which = "averaged weights" if averaged else "last weights"
    title = f"{summary['model']} on {summary['data']}, validation split, {summary['images_seen']:,} images seen, {which}"
    print_metrics(console, title, measurements_of(summary), numbers)
    places = [("pictures", f"{PICTURES}/"), ("numbers", SUMMARY), ("curves", METRICS), ("weights", f"{CHECKPOINTS}/")]
    places += [("profile", path.name) for path in run.glob("fit-profile*")]
    for what, where in places:
        console.print(f"{what + ':':10} {shown_path(run)}/{where}", soft_wrap=True, highlight=False)
    if upload := upload_command([run]):
        console.print(f"W&B:       logged offline; to upload, run: wandb login && {upload}", soft_wrap=True, highlight=False)
