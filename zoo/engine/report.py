"""What a run says of itself: the configuration as a tree, versions, summary.json."""

import contextlib
import shlex
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from zoo.data.files import write_json
from zoo.engine.devices import machine, peak_memory_mib
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
    checkout = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    found["commit"] = "unknown"
    if (checkout / ".git").exists():  # an installed zoo may lie inside somebody else's repository
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            found["commit"] = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
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


def total_spent(settings: dict[str, Any], images_seen: int, train_seconds: float, earlier: dict[str, Any]) -> dict[str, Any]:
    """Images, hours and hours × devices that a stage with these settings and those before it have trained."""
    hours, ranks = train_seconds / 3600, settings["trainer"]["devices"] * settings["trainer"]["num_nodes"]
    own = {"images_seen": images_seen, "train_hours": hours, "device_hours": hours * ranks}
    return {name: earlier.get(name, 0) + value for name, value in own.items()}


def write_summary(
    run: Path,
    settings: dict[str, Any],
    model: Autoencoder,
    metrics: dict[str, float],
    images_seen: int,
    train_seconds: float,
    complete: bool,
    peak_memory: float | None = None,
) -> dict[str, Any]:
    """Writes summary.json, prints the final numbers and where everything lies; returns what it has written. On rank 0.

    Args:
        run: The run's folder.
        settings: Its settled configuration.
        model: Its model, on its device; its provenance tells of an earlier stage.
        metrics: The last measurement of the validation split.
        images_seen: Images trained on, in this stage.
        train_seconds: Seconds spent training this stage, over all sessions, without validation, pictures and checkpoints.
        complete: Whether nothing is left to train for this budget.
        peak_memory: MiB of training, if it was taken at its end; otherwise of the process so far.
    """
    trainer = settings["trainer"]
    earlier = model.provenance.get("pretrain", {})
    spent = total_spent(settings, images_seen, train_seconds, earlier)
    rate = spent["images_seen"] / (3600 * spent["train_hours"]) if train_seconds else None  # over all stages, as the hours are
    summary = {
        "model": settings["model"]["name"],
        "data": settings["data"]["name"],
        "seed": settings["seed"],
        "command": model.provenance["command"],
        "split": "val",
        "metrics": metrics,
        "images_seen": spent["images_seen"],
        "training": {"budget": settings["budget"], "complete": complete},  # a model may end it before the budget is spent
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "images_per_second": rate,
        "train_hours": spent["train_hours"],
        "device_hours": spent["device_hours"],
        "devices": trainer["devices"] * trainer["num_nodes"],
        "accelerator": trainer["accelerator"],
        "precision": trainer["precision"],
        "peak_memory_mib": peak_memory or peak_memory_mib(model.device),
        "machine": machine(model.device),
        "versions": versions(),
    } | ({"pretrain": earlier} if earlier else {})
    write_json(run / "summary.json", summary)

    console = Console()
    shown = {name.removeprefix("val/"): value for name, value in metrics.items()} | ({"training images/s": rate} if rate else {})
    print_metrics(console, f"{summary['model']} on {summary['data']}, validation split, {spent['images_seen']:,} images seen", shown)
    for what, where in (("pictures", "pictures/"), ("numbers", "summary.json"), ("curves", "metrics.csv"), ("weights", "checkpoints/")):
        console.print(f"{what + ':':10} {shown_path(run)}/{where}", soft_wrap=True, highlight=False)
    if upload := upload_command([run]):
        console.print(f"W&B:       logged offline; to upload, run: wandb login && {upload}", soft_wrap=True, highlight=False)
    return summary


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


def upload_command(runs: list[Path]) -> str:
    """What uploads those of these runs, with their first stages, that were logged offline and not uploaded yet; "" if there are none."""
    waiting: dict[Path, list[str]] = {}  # by run: where its logs lie
    for run in runs:
        for stage in ("wandb", "pretrain/wandb"):
            logs = run.glob(f"{stage}/offline-run-*/*.wandb")
            if any(not log.with_name(f"{log.name}.synced").exists() for log in logs):  # the mark that wandb sync leaves
                waiting.setdefault(shown_path(run), []).append(stage)
    if not waiting:
        return ""
    parents = {run.parent for run in waiting}
    if len(waiting) > 1 and len(parents) == 1:
        stages = sorted({stage for found in waiting.values() for stage in found}, reverse=True)
        places = [f"{shlex.quote(str(parent))}/*/{stage}" for parent in parents for stage in stages]
    else:
        places = [f"{shlex.quote(str(run))}/{stage}" for run, found in waiting.items() for stage in found]
    return " ".join(["wandb sync", *(f"{place}/offline-run-*" for place in places)])


def shown_path(run: Path) -> Path:
    """The path as seen from here, if it lies below."""
    return run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run
