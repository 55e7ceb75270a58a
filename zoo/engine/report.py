"""What a run says of itself: the configuration as a tree, versions, summary.json."""

import json
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from zoo.callbacks.clock import images_seen
from zoo.callbacks.monitor import Monitor, peak_memory_mib
from zoo.callbacks.watch import Watch
from zoo.engine.checkpoint import write_atomically
from zoo.models.base import Autoencoder

PACKAGES = ("zoo", "torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages that matter, and the git commit of the checkout the zoo runs from ("unknown" outside of one)."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    git = ["git", "-C", str(Path(__file__).resolve().parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found["commit"] = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found["commit"] = "unknown"
    return found


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


def write_summary(run: Path, trainer: Any, model: Autoencoder, monitor: Monitor, watch: Watch, settings: dict[str, Any]) -> None:
    """Writes summary.json, prints the final numbers and where everything lies; on rank 0."""
    hours = monitor.train_seconds / 3600
    seen = images_seen(trainer, model)
    summary = {
        "model": settings["model"]["name"],
        "data": settings["data"]["name"],
        "seed": settings["seed"],
        "split": "val",
        "metrics": watch.latest,
        "images_seen": seen,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "images_per_second": seen / monitor.train_seconds if monitor.train_seconds else None,
        "train_hours": hours,
        "devices": trainer.world_size,
        "accelerator": type(trainer.accelerator).__name__,
        "precision": settings["trainer"]["precision"],
        "device_hours": hours * trainer.world_size,
        "peak_memory_mib": peak_memory_mib(),
        "versions": versions(),
    }
    text = json.dumps(summary, indent=2) + "\n"
    write_atomically(run / "summary.json", lambda file: file.write(text.encode()))

    table = Table(title=f"{summary['model']} on {summary['data']}, validation split, {seen:,} images seen")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in watch.latest.items():
        table.add_row(name, f"{value:,.6g}")
    if summary["images_per_second"]:
        table.add_row("training images/s", f"{summary['images_per_second']:,.0f}")
    console = Console()
    console.print(table)
    for what, where in (("pictures", "pictures/"), ("numbers", "summary.json"), ("curves", "metrics.csv"), ("weights", "checkpoints/")):
        console.print(f"{what + ':':10} {_shown(run)}/{where}", soft_wrap=True, highlight=False)
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and logger.experiment.offline:
            upload = f"wandb login && wandb sync {_shown(run)}/wandb/offline-run-*"
            console.print(f"W&B:       logged offline; to upload, run: {upload}", soft_wrap=True, highlight=False)


def _shown(run: Path) -> Path:
    return run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run
