"""Checked settings with what `auto` and `null` mean on this machine filled in, once for each process."""

import os
from collections.abc import Sequence

import torch

from zoo.config.check import validated
from zoo.config.schema import ResolvedSettings, TrainerSettings, TrainSettings
from zoo.errors import ZooError
from zoo.evaluation.protocol import selected
from zoo.hardware import external_world_size

SHARES = {"val_every_images": 10, "checkpoint_every_images": 10, "log_every_images": 200}  # null = this part of max_images


def resolve_config(settings: TrainSettings) -> ResolvedSettings:
    """The settings as they hold here. Raises ZooError for what this machine cannot do, and for numbers that do not fit each other."""
    batch_size, max_images = settings.batch_size, settings.max_images
    if max_images < batch_size:
        raise ZooError(f"max_images={max_images} images is less than one batch of {batch_size}; raise max_images or lower batch_size.")
    intervals = {name: getattr(settings, name) or max(1, max_images // share) for name, share in SHARES.items()}
    resolved = validated(ResolvedSettings, settings.plain() | intervals)
    resolved.evaluation.metrics = selected(settings.evaluation.metrics, "evaluation.metrics")
    resolved.trainer = resolve_trainer(settings.trainer)
    if batch_size % resolved.micro_batches:
        raise ZooError(
            f"batch_size={batch_size} cannot be divided over {resolved.trainer.world_size} devices × "
            f"{resolved.trainer.accumulate_grad_batches} accumulated batches; make it a multiple of {resolved.micro_batches}."
        )
    return resolved


def resolve_trainer(trainer: TrainerSettings) -> TrainerSettings:
    """Accelerator, devices on each machine and precision. Raises ZooError for what this machine cannot do."""
    gpus = torch.cuda.device_count()
    accelerator, devices, precision = trainer.accelerator, trainer.devices, trainer.precision
    if accelerator == "auto":
        accelerator = "gpu" if gpus else "cpu"
    known("trainer.accelerator", accelerator, ("auto", "cpu", "gpu"))
    if devices == "auto":
        devices = max(gpus, 1) if accelerator == "gpu" else 1
    if type(devices) is not int or devices < 1:
        raise ZooError(f"trainer.devices={devices} is not a number of devices; give a whole number of at least 1, or auto.")
    if accelerator == "gpu" and devices > gpus:
        raise ZooError(f"{devices} GPUs were asked for, but this machine has {gpus}; lower trainer.devices or take the CPU.")
    if trainer.accelerator == "auto" and accelerator == "cpu" and devices > 1:
        raise ZooError(
            f"{devices} devices were asked for, but this machine has no GPU; set trainer.devices=1, "
            f"or trainer.accelerator=cpu to run {devices} processes."
        )
    resolved = trainer.model_copy(update={"accelerator": accelerator, "devices": devices})
    if "TORCHELASTIC_RUN_ID" in os.environ and external_world_size() != resolved.world_size:
        raise ZooError(
            f"torchrun has started {external_world_size()} processes, but trainer.devices={devices} and "
            f"trainer.num_nodes={trainer.num_nodes} are for {resolved.world_size}; make them --nproc-per-node and --nnodes."
        )
    if precision == "auto":
        precision = "bf16-mixed" if accelerator == "gpu" else "32-true"
    known("trainer.precision", precision, ("32-true", "bf16-mixed", "16-mixed"))
    if precision == "16-mixed" and accelerator == "cpu":
        raise ZooError("trainer.precision=16-mixed needs a GPU; use bf16-mixed or 32-true on a CPU.")
    return resolved.model_copy(update={"precision": precision})


def known(key: str, value: object, choices: Sequence[str]) -> None:
    """Raises ZooError for a value that is none of the choices."""
    if value not in choices:
        raise ZooError(f"{key}={value} is not known; use {', '.join(choices[:-1])} or {choices[-1]}.")
