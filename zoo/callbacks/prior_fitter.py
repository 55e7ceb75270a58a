"""Fits the model's prior to latents of training images whenever the model is validated."""

from typing import Any

import pytorch_lightning as pl
from torch import Tensor


class PriorFitter(pl.Callback):
    """Fits a prior that is of a kind to be fitted to at most `images` training images, the same on all ranks.

    Stands before a callback that averages weights: the codes are then those of the averaged weights. What was fitted goes into the
    raw model, too: averaging the weights on must not wash the prior out.
    """

    def __init__(self, images: int = 10_000) -> None:
        self.images = images
        self._fitted: dict[str, Tensor] = {}

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if pl_module.prior.needs_fit and not trainer.sanity_checking:
            pl_module.fit_prior(trainer.datamodule.loader("train", limit=self.images, shared=True))
            self._fitted = {name: value.clone() for name, value in pl_module.prior.state_dict().items()}

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self._fitted:
            pl_module.prior.load_state_dict(self._fitted)
            self._fitted = {}
