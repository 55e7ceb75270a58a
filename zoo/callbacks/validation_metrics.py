"""Measures the validation split at fixed intervals in images, and after the last step."""

from typing import Any

import numpy as np
import pytorch_lightning as pl

from zoo.batch import to_float
from zoo.callbacks.clock import Pauses, images_seen, is_due
from zoo.callbacks.training_metrics import log
from zoo.data.loader import BatchLoader
from zoo.models.base import Autoencoder, evaluation_mode
from zoo.models.means import Means
from zoo.models.method import VALIDATION

IMAGES = 10_000  # at most


class ValidationMetrics(pl.Callback):
    """Logs the means of all loss terms, `val/mse` and `val/psnr`, with averaged weights if any; on all ranks."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.latest: dict[str, float] = {}  # kept in the checkpoint: a run killed before its summary still has its numbers

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if is_due(trainer, pl_module, self.every):
            with Pauses.counted(), evaluation_mode(pl_module, trainer):
                found = measure(pl_module, trainer.datamodule.loader("val", limit=IMAGES))
                self.latest = {f"val/{name}": value for name, value in found.items()}
                log(trainer, images_seen(trainer, pl_module), self.latest)

    def state_dict(self) -> dict[str, Any]:
        return {"latest": self.latest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.latest = state_dict["latest"]


def measure(model: Autoencoder, loader: BatchLoader) -> dict[str, float]:
    """Means of the model's scores over the loader's images, and how many these are; each image once over all ranks."""
    means = Means()
    for uint8_batch in loader:
        batch = to_float(uint8_batch)
        global_batch, first_row = divmod(int(np.searchsorted(loader.positions, int(batch.index[0]))), loader.batch_size)
        rows = min(loader.batch_size, loader.n - global_batch * loader.batch_size)
        model.set_batch_rng((VALIDATION, global_batch), first_row, len(batch.image), rows)
        means.add(model.scores(batch), len(batch.image))
    return means.take() | {"images": float(loader.n)}
