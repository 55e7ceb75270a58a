"""Measures the validation split at fixed intervals in images, and after the last step."""

from typing import Any

import pytorch_lightning as pl

from zoo.callbacks.clock import Pauses, images_seen, is_due
from zoo.callbacks.training_metrics import log
from zoo.evaluation.validation import measure
from zoo.models.base import evaluation_mode


class ValidationMetrics(pl.Callback):
    """Logs the means of all loss terms, `val/mse` and `val/psnr`, of at most `images`, with averaged weights if any; on all ranks."""

    def __init__(self, every: int, images: int = 10_000) -> None:
        self.every, self.images = every, images
        self.latest: dict[str, float] = {}  # kept in the checkpoint: a run killed before its summary still has its numbers

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if is_due(trainer, pl_module, self.every):
            with Pauses.counted(), evaluation_mode(pl_module, trainer):
                found = measure(pl_module, trainer.datamodule.loader("val", limit=self.images))
                self.latest = {f"val/{name}": value for name, value in found.items()}
                log(trainer, images_seen(trainer, pl_module), self.latest)

    def state_dict(self) -> dict[str, Any]:
        return {"latest": self.latest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.latest = state_dict["latest"]
