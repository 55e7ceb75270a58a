""""""

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from zoo.batch import Batch
from zoo.callbacks.clock import Pauses, images_seen, is_due
from zoo.callbacks.training_metrics import log
from zoo.evaluation.context import EvalContext, features_of
from zoo.evaluation.protocol import LEAST, evaluate
from zoo.evaluation.validation import fit_prior, measure, quiet
from zoo.generation import grids
from zoo.hardware import peak_memory_mib
from zoo.models.base import Autoencoder
from zoo.runs.files import read_json
from zoo.runs.measurements import Measurement, by_flat_name, measurements_of
from zoo.viz import tiling


class Watch(pl.Callback):
    """Validates and draws every `every` images and after the last step, with the averaged weights where averaging is on.

    After the last step the validation split is measured by the protocol of `zoo.evaluate`, with `samples` images (0 = not at all) and
    the groups `metrics`; also in a session that begins (after `begin` images) where nothing is left to train, if that is missing.
    """

    def __init__(
        self,
        run: Path,
        every: int,
        samples: int = 0,
        metrics: list[str] | None = None,
        begin: int = 0,
        validation_images: int = 10_000,
        prior_images: int = 10_000,
    ) -> None:
        self.run, self.every, self.samples, self.metrics, self.begin = run, every, samples, metrics, begin
        self.validation_images, self.prior_images = validation_images, prior_images
        self.peak_memory_mib: float | None = None  # of training; None before its end
        self.measurements: list[Measurement] = []  # of the validation split, after the last step
        self.latest: dict[str, float] = {}  # kept in the checkpoint: a run killed before its summary still has its numbers

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if is_due(trainer, pl_module, self.every):
            with Pauses.counted():
                with quiet(pl_module, trainer):
                    self.look(trainer, pl_module)
                    fitted = {name: value.clone() for name, value in pl_module.prior.state_dict().items()}
                if pl_module.prior.needs_fit:  # into the raw model, too: averaging the weights on must not wash the prior out
                    pl_module.prior.load_state_dict(fitted)

    def look(self, trainer: Any, model: Any) -> None:
        """Measures the validation split, fits the prior, draws and logs; on all ranks."""
        data, seen = trainer.datamodule, images_seen(trainer, model)
        found = measure(model, data.loader("val", limit=self.validation_images))
        self.latest = {f"val/{name}": value for name, value in found.items()}
        fit_prior(model, data.loader("train", limit=self.prior_images, shared=True))
        log(trainer, seen, self.latest)
        if trainer.is_global_zero:
            few, many = (data.some_images("val", count) for count in (grids.FEW, grids.MANY))
            for name, grid in grids.pictures_of(model, few, many, names=data.store.attribute_names).items():
                path = self.run / "pictures" / f"{name}-{seen:012d}.png"
                tiling.save(grid, path)
                _log_picture(trainer, seen, name, grid)
            if trainer.global_step >= trainer.max_steps and model.can_encode and are_alike(model, few):
                print(
                    f"The reconstructions of different images are all alike after {seen:,} images: the codes tell nothing; "
                    f"start anew with a longer scheduler.warmup (0.2) or a lower optimizer.lr.",
                    file=sys.stderr,
                )

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The numbers of the protocol on the validation split, after the last checkpoint: whatever goes wrong here costs no training.

        A session that has trained nothing keeps those that are known.
        """
        data, seen = trainer.datamodule, images_seen(trainer, pl_module)
        known = read_json(self.run / "summary.json")
        if seen == self.begin == known.get("images_seen") and "measurements" in known:  # of these very weights
            self.latest |= known["metrics"]
            self.measurements = measurements_of(known)
            self.peak_memory_mib = known["peak_memory_mib"]
        else:
            self.peak_memory_mib = peak_memory_mib(pl_module.device)
        samples = min(self.samples, data.limit or self.samples, len(data.store.indices("val")))
        if trainer.global_step < trainer.max_steps or samples < LEAST or self.measurements:
            return
        context = EvalContext(pl_module, data.store, "val", samples, cache=data.cache)
        try:
            context.features = features_of(context, "classifier", None)
            with quiet(pl_module, trainer):
                self.measurements = evaluate(context, self.metrics)
        except Exception as error:
            print(
                f"The evaluation was left out ({type(error).__name__}: {error}); try python -m zoo.evaluate run={self.run}.",
                file=sys.stderr,
            )
            return
        log(trainer, seen, by_flat_name(self.measurements))

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Lightning has moved the model off its device, and leaves on_train_end out where nothing is left to train."""
        pl_module.to(trainer.strategy.root_device)
        if self.peak_memory_mib is None:
            self.on_train_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"latest": self.latest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.latest = state_dict["latest"]


def are_alike(model: Autoencoder, batch: Batch) -> bool:
    """Whether reconstructions differ from each other by less than 2 % of what the images do."""
    made, given = model.reconstruct(batch.image, batch.attributes), batch.image
    return len(given) > 1 and bool(made.std(0).mean() < 0.02 * given.std(0).mean())


def _log_picture(trainer: pl.Trainer, seen: int, name: str, grid: Tensor) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # there, since its logger is

            logger.experiment.log({f"pictures/{name}": wandb.Image(grid.permute(1, 2, 0).cpu().numpy()), "images_seen": seen})
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(f"pictures/{name}", grid.to(torch.uint8), seen)
