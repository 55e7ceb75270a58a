"""Fits the model's prior to latents of training images at fixed intervals in images, and after the last step."""

from typing import Any

import pytorch_lightning as pl

from zoo.callbacks.clock import Pauses, is_due
from zoo.models.base import evaluation_mode


class PriorFitter(pl.Callback):
    """Fits a prior that is of a kind to be fitted, every `every` images, to at most `images` training images, the same on all ranks."""

    def __init__(self, every: int, images: int = 10_000) -> None:
        self.every, self.images = every, images

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not (pl_module.prior.needs_fit and is_due(trainer, pl_module, self.every)):
            return
        with Pauses.counted():
            with evaluation_mode(pl_module, trainer):
                pl_module.fit_prior(trainer.datamodule.loader("train", limit=self.images, shared=True))
                fitted = {name: value.clone() for name, value in pl_module.prior.state_dict().items()}
            pl_module.prior.load_state_dict(fitted)  # into the raw model, too: averaging the weights on must not wash the prior out
