"""Checked settings with what `auto` and `null` mean on this machine filled in, once for each process."""

import os
from collections.abc import Sequence

import torch

from zoo.config.check import check
from zoo.config.schema import ResolvedSettings, TrainerSettings, TrainSettings
from zoo.errors import ZooError
from zoo.evaluation.descriptors import selected
from zoo.hardware import external_world_size
from zoo.runs.build import build_data

SHARES = {"val_every_images": 10, "checkpoint_every_images": 10, "log_every_images": 200}  # null = this part of max_images


# What the Trainer calls what a setting of the zoo says in images.
TRAINERS = {
    "max_images": ("max_epochs", "max_steps"),
    "val_every_images": ("val_check_interval", "check_val_every_n_epoch"),
    "log_every_images": ("log_every_n_steps",),
}


def resolve_config(settings: TrainSettings, overrides: Sequence[str] = ()) -> ResolvedSettings:
    """The settings as they hold here.

    An argument of the Trainer that is set wins over the zoo's setting of the same thing. Its length and its logging interval are turned
    into images, and leave no trace beside them.

    Args:
        settings: As they were typed, or stand in a file.
        overrides: What was typed on the command line.

    Raises:
        ZooError: This machine cannot do it, or settings do not fit each other.
    """
    settings = settings.model_copy(deep=True)
    trainer, batch_size = settings.trainer, settings.batch_size
    typed = {override.partition("=")[0].lstrip("+") for override in overrides}
    for name, theirs in TRAINERS.items():
        given = [argument for argument in theirs if getattr(trainer, argument) not in (None, -1)]
        if name in typed and (both := next((argument for argument in given if f"trainer.{argument}" in typed), None)):
            raise ZooError(f"{name} and trainer.{both} say the same thing; give only one of them.")
        if name in typed:
            for argument in given:
                setattr(trainer, argument, TrainerSettings.model_fields[argument].default)
    lengths = [trainer.max_steps * batch_size] if trainer.max_steps > 0 else []
    if trainer.max_epochs is not None:
        lengths.append(trainer.max_epochs * build_data(settings).steps_per_epoch() * batch_size)
    if lengths:
        settings.max_images = min(lengths)
    if trainer.log_every_n_steps is not None:
        settings.log_every_images = trainer.log_every_n_steps * batch_size
    trainer.max_steps, trainer.max_epochs, trainer.log_every_n_steps = -1, None, None

    max_images = settings.max_images
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
    if accelerator in ("auto", "cuda"):
        accelerator = "gpu" if gpus or accelerator == "cuda" else "cpu"
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
