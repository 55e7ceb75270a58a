"""The Trainer of a run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch import Tensor

from zoo.callbacks.lightning_internals import switch_off_sigterm_broadcast
from zoo.config.schema import TrainerSettings
from zoo.hardware import external_world_size
from zoo.runs.checkpoint import SafeCheckpointIO


def build_trainer(
    settings: TrainerSettings, run: Path, steps: int, val_every: int, callbacks: list[pl.Callback], loggers: list[Any]
) -> pl.Trainer:
    """The Trainer of resolved settings: DDP with more than one device; no sampler of Lightning.

    Args:
        settings: What the Trainer is told.
        run: The run's folder.
        steps: Optimizer steps of the whole training.
        val_every: Optimizer steps between validations; 0 = none.
        callbacks: In their order.
        loggers: All that metrics go to.
    """
    precision: Any = settings.precision  # "auto" is resolved
    strategy: str | Strategy = "auto"
    if settings.world_size > 1:
        strategy = DDPStrategy(find_unused_parameters=False, broadcast_buffers=False, gradient_as_bucket_view=True)
    cluster: list[ClusterEnvironment] = []
    if "SLURM_NTASKS" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        # One task of Slurm starts its processes itself. Several do not, and Lightning must not requeue their job, in a signal handler, too.
        cluster = [SLURMEnvironment(auto_requeue=False) if external_world_size() > 1 else LightningEnvironment()]
    trainer = pl.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=strategy,
        precision=precision,
        accumulate_grad_batches=settings.accumulate_grad_batches,
        gradient_clip_val=settings.gradient_clip_val,
        deterministic=settings.deterministic,
        benchmark=not settings.deterministic,
        max_steps=steps,
        max_epochs=-1,
        callbacks=callbacks,
        logger=loggers,
        plugins=[SafeCheckpointIO(), *cluster],
        default_root_dir=run,
        limit_val_batches=1.0 if val_every else 0,
        val_check_interval=val_every * settings.accumulate_grad_batches or None,  # in batches
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        inference_mode=False,
        enable_model_summary=False,
        sync_batchnorm=settings.accelerator == "gpu",  # for the published nets that have BatchNorm; others have none
    )
    switch_off_sigterm_broadcast(trainer)
    return trainer


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """How averaged weights follow. What does not move stays to the last bit, as a frozen stage, and indices are not averaged.

    Lightning's EMAWeightAveraging computes decay·a + (1 - decay)·b, which is off by rounding even where a = b, and cuts whole numbers off.
    """

    def average(averaged: Tensor, current: Tensor, count: Any) -> Tensor:
        return averaged.lerp(current, 1 - decay) if current.is_floating_point() else current

    return average
