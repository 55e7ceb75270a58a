"""Warns after training if the reconstructions of different images are all alike."""

import sys
from typing import Any

import pytorch_lightning as pl

from zoo.batch import Batch
from zoo.callbacks.clock import images_seen
from zoo.models.base import Autoencoder, evaluation_mode

IMAGES = 16


class CollapseWarning(pl.Callback):
    """Looks at a few validation images after training; on rank 0. Stands behind a callback that averages weights."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if not (trainer.is_global_zero and pl_module.can_encode):
            return
        with evaluation_mode(pl_module):
            collapsed = are_alike(pl_module, trainer.datamodule.some_images("val", IMAGES))
        if collapsed:
            print(
                f"The reconstructions of different images are all alike after {images_seen(trainer, pl_module):,} images: the codes tell "
                f"nothing; start anew with a longer scheduler.warmup (0.2) or a lower optimizer.lr.",
                file=sys.stderr,
            )


def are_alike(model: Autoencoder, batch: Batch) -> bool:
    """Whether reconstructions differ from each other by less than 2 % of what the images do."""
    made, given = model.reconstruct(batch.image, batch.attributes), batch.image
    return len(given) > 1 and bool(made.std(0).mean() < 0.02 * given.std(0).mean())
