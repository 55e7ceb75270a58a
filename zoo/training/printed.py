"""What is printed when training begins and when it has ended."""

from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from zoo.evaluation.metric_tables import print_metrics
from zoo.models.base import Autoencoder
from zoo.runs.layout import CHECKPOINTS, METRICS, PICTURES, SUMMARY
from zoo.runs.measurements import measurements_of
from zoo.runs.wandb_files import shown_path, upload_command


@rank_zero_only
def print_tree(settings: dict[str, Any]) -> None:
    """Prints the resolved configuration."""

    def grow(tree: Tree, node: dict[str, Any]) -> Tree:
        for key, value in node.items():
            if isinstance(value, dict):
                grow(tree.add(f"[bold]{key}"), value)
            else:
                tree.add(f"{key}: {value}")
        return tree

    Console().print(grow(Tree("[bold]configuration"), settings))


@rank_zero_only
def print_model(model: Autoencoder) -> None:
    """Prints the parts of the model and their parameters."""
    table = Table("part", "parameters", title=f"{type(model).__name__}: {'×'.join(map(str, model.image_shape))} ↔ {model.latent_dim}")
    table.columns[1].justify = "right"
    for name, part in model.named_children():
        table.add_row(f"{name}: {type(part).__name__}", f"{sum(parameter.numel() for parameter in part.parameters()):,}")
    table.add_row("all", f"{sum(parameter.numel() for parameter in model.parameters()):,}")
    Console().print(table)


def print_summary(run: Path, summary: dict[str, Any]) -> None:
    """Prints the final numbers of a run's summary.json, and where everything lies."""
    console, metrics, rate = Console(), summary["metrics"], summary["images_per_second"]
    numbers = {name.removeprefix("val/"): value for name, value in metrics.items()} | ({"training images/s": rate} if rate else {})
    title = f"{summary['model']} on {summary['data']}, validation split, {summary['images_seen']:,} images seen"
    print_metrics(console, title, measurements_of(summary), numbers)
    for what, where in (("pictures", f"{PICTURES}/"), ("numbers", SUMMARY), ("curves", METRICS), ("weights", f"{CHECKPOINTS}/")):
        console.print(f"{what + ':':10} {shown_path(run)}/{where}", soft_wrap=True, highlight=False)
    if upload := upload_command([run]):
        console.print(f"W&B:       logged offline; to upload, run: wandb login && {upload}", soft_wrap=True, highlight=False)
