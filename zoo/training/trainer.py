"""The Trainer of a run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor

from zoo.callbacks.lightning_internals import switch_off_sigterm_broadcast
from zoo.config.schema import DECIDED, TrainerSettings
from zoo.hardware import external_world_size
from zoo.runs.checkpoint import SafeCheckpointIO

PROFILERS: dict[str, Any] = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}


def build_trainer(
    settings: TrainerSettings,
    run: Path,
    steps: int,
    callbacks: list[pl.Callback],
    loggers: list[Any],
    val_every: int | None = None,
    log_every: int = 50,
) -> Any:
    """The pl.Trainer of resolved settings: DDP with more than one device; no sampler of Lightning.

    Args:
        settings: What the Trainer is told.
        run: The run's folder.
        steps: Optimizer steps of the whole training.
        callbacks: In their order.
        loggers: All that metrics go to.
        val_every: Optimizer steps between validations, where the settings do not say it; None = no validation.
        log_every: Optimizer steps between what Lightning's own callbacks log.
    """
    arguments = settings.model_dump(exclude=set(DECIDED) | {"max_epochs", "max_steps", "max_time", "log_every_n_steps"})
    if settings.world_size > 1:
        unused = settings.strategy == "ddp_find_unused_parameters_true"
        arguments["strategy"] = DDPStrategy(find_unused_parameters=unused, broadcast_buffers=False, gradient_as_bucket_view=True)
    else:
        arguments["strategy"] = "auto"
    if settings.val_check_interval is None and settings.check_val_every_n_epoch is None:
        arguments["val_check_interval"] = val_every and val_every * settings.accumulate_grad_batches  # in batches
    elif type(settings.val_check_interval) is float or settings.check_val_every_n_epoch is not None:
        arguments["check_val_every_n_epoch"] = settings.check_val_every_n_epoch or 1
    if val_every is None:
        arguments["limit_val_batches"] = 0
    if settings.benchmark is None:
        arguments["benchmark"] = not settings.deterministic
    if settings.sync_batchnorm is None:
        arguments["sync_batchnorm"] = settings.accelerator == "gpu"  # for the published nets that have BatchNorm; others have none
    if settings.profiler is not None:
        arguments["profiler"] = PROFILERS[settings.profiler](dirpath=run, filename="profile")
    if settings.max_time is not None:  # first, so that other callbacks see in the same step that it was the last one
        callbacks = [Timer(settings.max_time), *callbacks]
    cluster: list[ClusterEnvironment] = []
    if "SLURM_NTASKS" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        # One task of Slurm starts its processes itself. Several do not, and Lightning must not requeue their job, in a signal handler, too.
        cluster = [SLURMEnvironment(auto_requeue=False) if external_world_size() > 1 else LightningEnvironment()]
    trainer = pl.Trainer(
        **arguments | {"enable_model_summary": bool(settings.enable_model_summary)},
        max_steps=steps,
        max_epochs=-1,
        callbacks=callbacks,
        logger=loggers,
        log_every_n_steps=log_every,
        plugins=[SafeCheckpointIO(), *cluster],
        default_root_dir=run,
        use_distributed_sampler=False,
        inference_mode=False,
    )
    switch_off_sigterm_broadcast(trainer)
    return trainer


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """How averaged weights follow: with min(decay, (1 + n)/(10 + n)) after n steps, so that the start does not weigh on a short training.

    What does not move stays to the last bit, as a frozen stage, and indices are not averaged. Lightning's EMAWeightAveraging computes
    decay·a + (1 - decay)·b, which is off by rounding even where a = b, and cuts whole numbers off. The ramp is TensorFlow's
    (tf.train.ExponentialMovingAverage, num_updates).
    """

    def average(averaged: Tensor, current: Tensor, count: Any) -> Tensor:
        if not current.is_floating_point():
            return current
        count = torch.as_tensor(count, device=averaged.device)
        return averaged.lerp(current, 1 - ((1 + count) / (10 + count)).clamp(max=decay).to(averaged.dtype))

    return average
