"""summary.json: what a run has cost, and its last measurements of the validation split."""

from pathlib import Path
from typing import Any

from zoo.config.schema import TrainSettings
from zoo.hardware import machine
from zoo.models.base import Autoencoder
from zoo.runs import records
from zoo.runs.layout import RESULTS_FORMAT, SUMMARY
from zoo.runs.measurements import Measurement
from zoo.runs.provenance import versions


def total_spent(settings: TrainSettings, images_seen: int, train_seconds: float, earlier: dict[str, Any]) -> dict[str, Any]:
    """Images, hours and hours × devices that a stage with these settings and those before it have trained."""
    hours = train_seconds / 3600
    own = {"images_seen": images_seen, "train_hours": hours, "device_hours": hours * settings.trainer.world_size}
    return {name: earlier.get(name, 0) + value for name, value in own.items()}


def write_summary(
    run: Path,
    settings: TrainSettings,
    model: Autoencoder,
    metrics: dict[str, float],
    measurements: list[Measurement],
    images_seen: int,
    train_seconds: float,
    complete: bool,
    ended: str,
    peak_memory_mib: float,
) -> dict[str, Any]:
    """Writes summary.json; returns what it has written. On rank 0.

    Args:
        run: The run's folder.
        settings: Its resolved settings.
        model: Its model, on its device; its provenance tells of an earlier stage.
        metrics: What training logged last of the validation split.
        measurements: Those of the final evaluation on the validation split.
        images_seen: Images trained on, in this stage.
        train_seconds: Seconds spent training this stage, over all sessions, without validation, pictures and checkpoints.
        complete: Whether nothing is left to train for max_images.
        ended: Why training has ended before max_images; "" if it has not.
        peak_memory_mib: Most memory that training has held.
    """
    trainer, earlier = settings.trainer, model.provenance.get("pretrain", {})
    spent = total_spent(settings, images_seen, train_seconds, earlier)
    summary = {
        "format": RESULTS_FORMAT,
        "model": settings.model["name"],
        "data": settings.data.name,
        "seed": settings.seed,
        "command": model.provenance["command"],
        "split": "val",
        "metrics": metrics,
        "measurements": [measurement.to_dict() for measurement in measurements],
        "images_seen": spent["images_seen"],
        "training": {"max_images": settings.max_images, "complete": complete} | ({"ended": ended} if ended else {}),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        # Over all stages, as the hours are.
        "images_per_second": spent["images_seen"] / (3600 * spent["train_hours"]) if train_seconds else None,
        "train_hours": spent["train_hours"],
        "device_hours": spent["device_hours"],
        "devices": trainer.world_size,
        "accelerator": trainer.accelerator,
        "precision": trainer.precision,
        "peak_memory_mib": peak_memory_mib,
        "machine": machine(model.device),
        "versions": versions(),
    } | ({"pretrain": earlier} if earlier else {})
    records.write(run / SUMMARY, summary)
    return summary
