"""summary.json: what a run has cost and measured."""

from pathlib import Path
from typing import Any

from zoo.files import write_json
from zoo.hardware import machine, peak_memory_mib
from zoo.models.base import Autoencoder
from zoo.runs.measurements import FORMAT, Measurement
from zoo.runs.provenance import versions


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
    measurements: list[Measurement],
    images_seen: int,
    train_seconds: float,
    complete: bool,
    peak_memory: float | None = None,
) -> dict[str, Any]:
    """Writes summary.json; returns what it has written. On rank 0.

    Args:
        run: The run's folder.
        settings: Its settled configuration.
        model: Its model, on its device; its provenance tells of an earlier stage.
        metrics: What training logged last of the validation split.
        measurements: Those of the final evaluation on the validation split.
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
        "format": FORMAT,
        "model": settings["model"]["name"],
        "data": settings["data"]["name"],
        "seed": settings["seed"],
        "command": model.provenance["command"],
        "split": "val",
        "metrics": metrics,
        "measurements": [measurement.to_dict() for measurement in measurements],
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

    return summary
