"""Warns after training if the reconstructions of different images are all alike."""

import sys
from typing import Any

import pytorch_lightning as pl

from zoo.batch import Batch
from zoo.callbacks.clock import images_seen
from zoo.models.base import Autoencoder, evaluation_mode
from zoo.models.method import VALIDATION

IMAGES = 16
LEAST_STEPS = 5  # a model that was tried for a moment has not collapsed, it has not begun


class CollapseWarning(pl.Callback):
    """Looks at a few validation images after training, and names the likely cause; on rank 0.

    Stands before a callback that averages weights: raw weights are then still at hand.
    """

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if not (trainer.is_global_zero and pl_module.can_encode and trainer.global_step >= LEAST_STEPS):
            return
        batch = trainer.datamodule.some_images("val", IMAGES)
        with evaluation_mode(pl_module, trainer):
            collapsed = are_alike(pl_module, batch)
        if collapsed:
            print(
                f"The reconstructions of different images are all alike after {images_seen(trainer, pl_module):,} images: "
                f"{likely_cause(pl_module, batch)}.",
                file=sys.stderr,
            )


def likely_cause(model: Autoencoder, batch: Batch) -> str:
    """Of collapsed reconstructions, and what to do: found by looking at the images, the raw weights and the loss."""
    if batch.image.std(0).mean() < 1e-3:
        return "so are the validation images; look at the data"
    with evaluation_mode(model):
        if not are_alike(model, batch):
            return "the averaged weights have not caught up with the raw ones, which tell images apart; lower ema_decay, or train longer"
        model.set_batch_rng((VALIDATION,), 0, len(batch.image), len(batch.image))
        rate = model.losses(batch).get("rate")
    if rate is not None and rate < 0.1:  # nats per image
        return "the codes tell nothing, as the KL term has pushed them to the prior; lower model.beta or lengthen model.kl_warmup"
    return "the codes tell nothing; start anew with a longer scheduler.warmup (0.2) or a lower optimizer.lr"


def are_alike(model: Autoencoder, batch: Batch) -> bool:
    """Whether reconstructions differ from each other by less than 2 % of what the images do."""
    made, given = model.reconstruct(batch.image, batch.attributes), batch.image
    return len(given) > 1 and bool(made.std(0).mean() < 0.02 * given.std(0).mean())
