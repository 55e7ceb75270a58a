"""Writes checkpoints at fixed intervals in images, after everything else that belongs to the step."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from zoo.callbacks.clock import Pauses, images_seen, is_due
from zoo.callbacks.lightning_internals import validation_is_due
from zoo.callbacks.stop_on_signal import StopOnSignal
from zoo.errors import ZooError
from zoo.models.base import REMEDY
from zoo.runs import checkpoint
from zoo.runs.layout import CHECKPOINTS


class PeriodicCheckpoint(pl.callbacks.Checkpoint):
    """`checkpoints/<images>.ckpt` every `every` images and after the last step; the newest `keep` stay.

    Lightning runs Checkpoint callbacks last, so what is saved at a step has been averaged, validated and drawn at that step. Where
    validation is due, nothing is saved before it: a run that is resumed from there would leave the validation out.
    """

    def __init__(self, run: Path, every: int, keep: int = 2, stop: StopOnSignal | None = None, resumable: Path | None = None) -> None:
        self.run, self.every, self.keep, self.stop = run, every, keep, stop
        self.resumable = resumable or run  # the folder that `resume` is to name

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not validation_is_due(trainer):
            self._save_if_due(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self._save_if_due(trainer, pl_module)

    def _save_if_due(self, trainer: pl.Trainer, pl_module: Any) -> None:
        stopped = self.stop.wanted(trainer) if self.stop else 0
        if is_due(trainer, pl_module, self.every) or (stopped and is_due(trainer, pl_module, 1)):
            self.save(trainer, pl_module)
            if stopped:
                seen = images_seen(trainer, pl_module)
                if trainer.is_global_zero:
                    print(f"Stopped by a signal after {seen:,} images; go on with: python -m zoo.train resume={self.resumable}", flush=True)
                raise SystemExit(128 + stopped if trainer.is_global_zero else 0)

    def save(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Writes a checkpoint of this moment and removes the oldest. Raises ZooError instead if a parameter is not finite."""
        for name, parameter in pl_module.named_parameters():
            if not parameter.isfinite().all():
                raise ZooError(f"Training diverged: '{name}' is not finite, so no checkpoint is written; {REMEDY}")
        with Pauses.counted():
            trainer.save_checkpoint(self.run / CHECKPOINTS / f"{images_seen(trainer, pl_module):012d}.ckpt", weights_only=False)
            if trainer.is_global_zero:
                for old in checkpoint.all_of(self.run)[self.keep :]:
                    trainer.strategy.checkpoint_io.remove_checkpoint(old)
