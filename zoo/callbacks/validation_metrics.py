"""Sees to it that the last step is validated, and remembers what validation has found."""

import time
from typing import Any

import pytorch_lightning as pl

from zoo.callbacks.clock import Pauses, is_due, is_last_step
from zoo.callbacks.lightning_internals import validate_now


class ValidationMetrics(pl.Callback):
    """Holds the last `val/…` metrics, those of other callbacks too; validates after the last step, however training ends.

    `latest` is kept in the checkpoint: a run that is killed before its summary still has its numbers.
    """

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self._step = -1  # that was validated last
        self._began = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if is_last_step(trainer) and is_due(trainer, pl_module, 1):
            trainer.should_stop = True  # Lightning validates then

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.enable_validation and self._step != trainer.global_step:  # stopped at the end of an epoch
            validate_now(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._began = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        Pauses.seconds += time.perf_counter() - self._began
        if not trainer.sanity_checking:
            self._step = trainer.global_step
            self.latest = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")}

    def state_dict(self) -> dict[str, Any]:
        return {"latest": self.latest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.latest = state_dict["latest"]
