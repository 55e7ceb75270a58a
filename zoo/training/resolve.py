"""Checked settings with what `auto` and `null` mean on this machine filled in, once for each process."""

import os

import torch

from zoo.config.check import check
from zoo.config.schema import ResolvedSettings, TrainerSettings, TrainSettings
from zoo.errors import ZooError
from zoo.evaluation.descriptors import selected
from zoo.hardware import external_world_size

SHARES = {"val_every_images": 10, "checkpoint_every_images": 10, "log_every_images": 200}  # null = this part of max_images


def resolve_config(settings: TrainSettings) -> ResolvedSettings:
    """The settings as they hold here. Raises ZooError for what this machine cannot do, and for numbers that do not fit each other."""
    batch_size, max_images = settings.batch_size, settings.max_images
    if max_images < batch_size:
        raise ZooError(f"max_images={max_images} images is less than one batch of {batch_size}; raise max_images or lower batch_size.")
    intervals = {name: getattr(settings, name) or max(1, max_images // share) for name, share in SHARES.items()}
    resolved = check(settings.plain() | intervals, ResolvedSettings)
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
    if precision == "16-mixed" and accelerator == "cpu":
        raise ZooError("trainer.precision=16-mixed needs a GPU; use bf16-mixed or 32-true on a CPU.")
    return resolved.model_copy(update={"precision": precision})
