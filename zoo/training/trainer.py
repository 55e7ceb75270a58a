"""The Trainer of a run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch import Tensor

from zoo.hardware import processes_started_outside, resolve
from zoo.runs.checkpoint import SafeCheckpointIO


def build_trainer(config: Any, run: Path, steps: int, callbacks: list[pl.Callback], loggers: list[Any]) -> pl.Trainer:
    """The Trainer of a run: DDP with more than one device; no Lightning validation loop, samplers or progress bar of its own."""
    accelerator, devices, precision = resolve(config)
    strategy: str | Strategy = "auto"
    if devices * config["num_nodes"] > 1:
        strategy = DDPStrategy(find_unused_parameters=False, broadcast_buffers=False, gradient_as_bucket_view=True)
    cluster: list[ClusterEnvironment] = []
    if "SLURM_NTASKS" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        # One task of Slurm starts its processes itself. Several do not, and Lightning must not requeue their job, in a signal handler, too.
        cluster = [SLURMEnvironment(auto_requeue=False) if processes_started_outside() > 1 else LightningEnvironment()]
    trainer: Any = pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=config["num_nodes"],
        strategy=strategy,
        precision=precision,
        accumulate_grad_batches=config["accumulate"],
        deterministic=config["deterministic"],
        benchmark=not config["deterministic"],
        max_steps=steps,
        max_epochs=-1,
        callbacks=callbacks,
        logger=loggers,
        plugins=[SafeCheckpointIO(), *cluster],
        default_root_dir=run,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        inference_mode=False,
        enable_model_summary=False,
        sync_batchnorm=accelerator == "gpu",  # for the published nets that have BatchNorm; others have none
    )
    # Lightning asks all ranks for a SIGTERM before each batch and waits for the answer; StopOnSignal asks every few steps.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
    return trainer


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """How averaged weights follow. What does not move stays to the last bit, as a frozen stage, and indices are not averaged.

    Lightning's EMAWeightAveraging computes decay·a + (1 - decay)·b, which is off by rounding even where a = b, and cuts whole numbers off.
    """

    def average(averaged: Tensor, current: Tensor, count: Any) -> Tensor:
        return averaged.lerp(current, 1 - decay) if current.is_floating_point() else current

    return average
