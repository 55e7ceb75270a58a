"""Draws grids of images whenever the model is validated: files, and the same for W&B and TensorBoard."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from zoo.callbacks.clock import images_seen
from zoo.generation import grids
from zoo.viz import tiling


class SampleLogger(pl.Callback):
    """Samples, reconstructions and more, of the same images and latents each time: `folder`/<kind>-<images seen>.png; on rank 0.

    Stands before a callback that averages weights: what is drawn is then the averaged model's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        data, seen = trainer.datamodule, images_seen(trainer, pl_module)
        few, many = (data.some_images("val", count) for count in (grids.FEW, grids.MANY))
        for name, grid in grids.image_grids(pl_module, few, many, names=data.store.attribute_names).items():
            tiling.save(grid, self.folder / f"{name}-{seen:012d}.png")
            log_image(trainer, seen, f"pictures/{name}", grid)


def log_image(trainer: pl.Trainer, seen: int, name: str, image: Tensor) -> None:
    """Sends an image (3, H, W) uint8 to the loggers that take some."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # there, since its logger is

            logger.experiment.log({name: wandb.Image(image.permute(1, 2, 0).cpu().numpy()), "images_seen": seen})
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, image.to(torch.uint8), trainer.global_step - 1)
