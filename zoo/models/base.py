"""The base class of every model: a method (zoo.models.method), and how any Lightning Trainer trains and measures it.

One loss, one backward pass, one optimizer: what differs between parameter groups (learning rate, betas, schedule, clipping) is kept here,
and so is the clock of images seen. In zoo.train the model's TrainingConfig says how it is trained, and callbacks log and validate; in
anybody's Trainer the model is `standalone`: it logs by self.log, counts images, and takes what the loader yields.
"""

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, get_total_norm
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from zoo.batch import Batch, as_batch, check_range, parts_of
from zoo.errors import ZooError
from zoo.hardware import distributed
from zoo.metrics.images import psnr, squared_error
from zoo.models.means import Means
from zoo.models.method import VALIDATION, Method, broadcast
from zoo.models.training_config import Schedule
from zoo.nets.described import name_of

INITIAL = 1024  # training images that data-dependent parameters start from
REMEDY = (  # for training that diverged
    "lower the learning rate (optimizer.lr, or model.param_groups.<name>.lr) or set trainer.gradient_clip_val=1, "
    "and start anew or resume from the last checkpoint."
)


class Autoencoder(Method):
    """What the methods inherit from. Arguments as in Method."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.save_hyperparameters(self.arguments())
        self._losses = self.losses
        self._terms, self._scores = Means(), Means()  # of training since they were logged; of an evaluation
        self._in_range = False  # whether a batch was looked at
        self.images_counted = 0  # of its training, where no settings say how many a step takes
        self.images_per_step = 0  # of the last step, over all ranks and pieces

    def setup(self, stage: str) -> None:
        """In a Trainer without zoo.train, the seed is Lightning's (seed_everything), or drawn once."""
        if self.standalone:
            given = os.environ.get("PL_GLOBAL_SEED")
            drawn = int(given) if given else secrets.randbits(32)
            self.training_config.seed = self.trainer.strategy.broadcast(drawn)

    @property
    def standalone(self) -> bool:
        """Whether anybody's Trainer trains the model, rather than zoo.train, whose callbacks log and validate."""
        return self._trainer is not None and not self.training_config.batch_size

    def configure_optimizers(self) -> Any:
        """The optimizer, and a scheduler that is stepped after each step; of a schedule: a LambdaLR, with a closure for each group."""
        training_config, optimizer = self.training_config, self.build_optimizer()
        if training_config.scheduler is not None:
            scheduler: Any = training_config.scheduler(optimizer)
            if isinstance(scheduler, ReduceLROnPlateau):  # stepped by on_validation_epoch_end; Lightning would do it at ends of epochs
                never = {"monitor": "val/loss", "interval": "epoch", "frequency": sys.maxsize}
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **never}}
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
        if training_config.schedule is None:
            return optimizer
        schedules = [training_config.group_schedules.get(group["name"], training_config.schedule) for group in optimizer.param_groups]
        scheduler = LambdaLR(optimizer, [self._factor(schedule) for schedule in schedules])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def build_optimizer(self) -> torch.optim.Optimizer:
        """The one optimizer of all parameter groups. Raises ZooError for settings of a group that the model does not have."""
        param_groups = self.param_groups()
        for name in [*self.group_options, *self.training_config.group_schedules]:
            if name not in param_groups:
                raise ZooError(
                    f"model.param_groups names a parameter group '{name}'; {type(self).__name__} has: {', '.join(param_groups)}."
                )
        trained = [id(p) for parameters in param_groups.values() for p in parameters]
        if sorted(trained) != sorted({id(p) for p in self.parameters() if p.requires_grad}):
            raise AssertionError(f"{type(self).__name__}.param_groups() must hold every trainable parameter exactly once")
        groups = [{"params": parameters, "name": name, **self.group_options.get(name, {})} for name, parameters in param_groups.items()]
        return self.optimizer_of(groups)

    def optimizer_of(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer of parameter groups: that of the training settings, or the one that the model was made with."""
        return (self.training_config.optimizer or partial(self.optimizer, lr=self.lr))(groups)

    def _factor(self, schedule: Schedule) -> Callable[[int], float]:
        """The factor on a learning rate by steps: a closure, which a checkpoint does not hold."""
        return lambda step: schedule(step * self.training_config.batch_size / self.training_config.max_images)

    def prepare_losses(self) -> None:
        """Puts the clock on the model's device, and compiles the losses where the training settings say so."""
        self.images_seen, self._first_row = self.images_seen.to(self.device), self._first_row.to(self.device)
        self._losses, self._in_range = self.losses, False
        if self.training_config.compile:
            import torch._inductor.config as inductor

            inductor.fallback_random = True  # compiled draws equal eager ones
            self._losses = torch.compile(self.losses, fullgraph=True)

    def on_fit_start(self) -> None:
        self.prepare_losses()
        if self.trainer.ckpt_path is None and not self.images_counted:
            with torch.no_grad():
                self.initialize(self._first_images())
            broadcast(self.state_dict().values())  # rounding may differ between devices
        data: Any = getattr(self.trainer, "datamodule", None)
        names = getattr(getattr(data, "store", None), "attribute_names", None)
        if self.standalone and names:
            self.set_attribute_names(names)

    def _first_images(self) -> Batch:
        """Up to 1,024 training images as a float batch on the device: those of the zoo's data, or the first batches of another loader."""
        trainer: Any = self.trainer
        if hasattr(trainer.datamodule, "some_images"):
            return trainer.datamodule.some_images("train", INITIAL)
        trainer.fit_loop.setup_data()  # otherwise done later; the loader is there then
        loader, parts, count = trainer.train_dataloader, [], 0
        with isolate_rng():
            for given in loader:
                parts.append(self._checked(given).to(self.device))
                count += len(parts[-1].image)
                if count >= INITIAL:
                    break
            iter(loader)  # workers that persist begin again
        return Batch(*(torch.cat(column)[:INITIAL] for column in zip(*parts, strict=True)))

    def on_train_start(self) -> None:
        data: Any = getattr(self.trainer, "datamodule", None)
        if hasattr(data, "read"):
            with torch.no_grad():
                self.prepare_data_cache(data.read)
        if self.training_config.schedule and self.trainer.ckpt_path is not None:
            scheduler: Any = self.trainer.lr_scheduler_configs[0].scheduler
            for group, rate, factor in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
                group["lr"] = rate * factor(scheduler.last_epoch)  # a larger max_images stretches the schedule from here on

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        trainer: Any = self.trainer
        batch_size = self.training_config.batch_size
        pieces, rows = trainer.accumulate_grad_batches, len(parts_of(batch)[0])
        seen = trainer.global_step * batch_size if batch_size else self.images_counted
        self.images_seen.fill_(seen)
        position, self.images_per_step = trainer.global_rank * pieces + batch_idx % pieces, rows * trainer.world_size * pieces
        self.set_batch_rng((self.training_config.seed, seen), position * rows, rows, self.images_per_step)

    def share_spent(self) -> float:
        """The part of this training that lies behind; 0 where the Trainer knows no end."""
        training_config, step = self.training_config, self.trainer.global_step
        if not self.standalone:
            return step * training_config.batch_size / training_config.max_images
        total = self.trainer.estimated_stepping_batches
        return step / total if total > 0 else 0.0

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        batch = self._checked(batch)
        losses = self._losses(batch)
        if self.check_finite_loss:
            self._stop_unless_finite(losses["loss"], batch)
        if self.standalone:
            self.images_counted += len(batch.image) * self.trainer.world_size
            self._log_terms(losses, batch_idx)
        return losses

    def _checked(self, given: Any) -> Batch:
        """A float batch of what a loader yields. Raises ZooError if the first one's images are not in [-1, 1]."""
        batch = as_batch(given)
        if not self._in_range and batch.image is parts_of(given)[0] and not isinstance(given, Batch):
            check_range(batch.image)
        self._in_range = True
        return batch

    def _log_terms(self, losses: dict[str, Tensor], batch_idx: int) -> None:
        """Logs the means of the loss terms since the last time, at steps where the Trainer writes."""
        trainer: Any = self.trainer
        self._terms.add(losses)
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        self.log_gradient_norms = stepped and (trainer.global_step + 1) % trainer.log_every_n_steps == 0
        if self.log_gradient_norms:
            self.log_dict({f"train/{name}": mean for name, mean in self._terms.take()[0].items()})

    # Measuring under Lightning ------------------------------------------------------------------------------------------

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Adds up every loss term, and `mse` (per value on [0, 1]) and `psnr` (dB) where the model can encode, in float32."""
        trainer: Any = self.trainer
        batch, loader = self._checked(batch), trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
        count = len(batch.image)
        if hasattr(loader, "rows_of"):  # the zoo's: its batches are parts of global ones
            global_batch, first_row, rows = loader.rows_of(batch_idx)
        else:
            global_batch, first_row, rows = batch_idx * trainer.world_size + trainer.global_rank, 0, count
        self.set_batch_rng((VALIDATION, global_batch), first_row, count, rows)
        with torch.autocast(self.device.type, enabled=False):
            self._scores.add(self.scores(batch), count)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        trainer: Any = self.trainer
        loss = self._log_scores("val")["loss"]
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau) and not trainer.sanity_checking:
                config.scheduler.step(loss)

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Reconstructions (B, C, H, W); of a model that cannot encode as many samples."""
        batch = self._checked(batch)
        return self.reconstruct(batch.image, batch.attributes) if self.can_encode else self.sample(len(batch.image))

    def scores(self, batch: Batch) -> dict[str, Tensor]:
        """Means over the batch of every loss term, and of `mse` and `psnr`: scalars."""
        scores = dict(self.losses(batch))
        if self.can_encode:
            error = squared_error(batch.image, self.reconstruct(batch.image, batch.attributes))
            scores |= {"mse": error.double().mean(), "psnr": psnr(error).double().mean()}
        return scores

    def _log_scores(self, split: str) -> dict[str, float]:
        training_config = self.training_config
        seen = training_config.images_before + self.trainer.global_step * training_config.batch_size or self.images_counted
        means, images = self._scores.take()
        metrics = {f"{split}/{name}": mean for name, mean in means.items()} | {f"{split}/images": images, "images_seen": seen}
        self.log_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()})  # numbers would be float32
        return means

    # One step -----------------------------------------------------------------------------------------------------------

    def _stop_unless_finite(self, loss: Tensor, batch: Batch) -> None:
        """Raises ZooError on all ranks if the loss of one of them is not finite; no weight has moved yet."""
        bad = (~loss.detach().isfinite()).float()
        ranks = dist.get_world_size() if distributed() else 1  # zoo.bench has no Trainer
        if ranks > 1:
            dist.all_reduce(bad, dist.ReduceOp.MAX)
        if bad.item():
            self.set_batch_rng(*self._rng_position)  # the same noise again
            with torch.no_grad():
                reasons = [self.locate_nonfinite(batch)]
            if ranks > 1:
                reasons *= ranks
                dist.all_gather_object(reasons, reasons[0])
            reason = max(reasons)  # of the ranks whose images are good there is none
            raise ZooError(
                f"Training diverged after {int(self.images_seen):,} images: the loss is not finite{reason and f' ({reason})'}; {REMEDY}"
            )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Sets the gradients of frozen groups to None. A zero loss weight would let Adam coast on, then jump."""
        frozen_groups = set(self.frozen_groups())
        for group in optimizer.param_groups:
            if group["name"] in frozen_groups:
                for parameter in group["params"]:
                    parameter.grad = None

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips each parameter group on its own, by its norm or by value: under one global norm a loud critic would silence the others."""
        if gradient_clip_val is None and not self.log_gradient_norms:
            return
        self.gradient_norms = {}
        for group in optimizer.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if not moving:
                continue
            if gradient_clip_val is not None and gradient_clip_algorithm != "value":
                self.gradient_norms[group["name"]] = clip_grad_norm_(moving, gradient_clip_val, foreach=True)
                continue
            self.gradient_norms[group["name"]] = get_total_norm([p.grad for p in moving if p.grad is not None], foreach=True)
            if gradient_clip_val is not None:
                clip_grad_value_(moving, gradient_clip_val, foreach=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["zoo"] = self.provenance or {"model": name_of(type(self))}
        if self.standalone:
            checkpoint["zoo"] |= {"images_seen": self.images_counted, "seed": self.training_config.seed, "terms": self._terms.state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        about = checkpoint.get("zoo", {})
        if "terms" in about:
            self.images_counted, self.training_config.seed = about["images_seen"], about["seed"]
            self._terms.load_state_dict(about["terms"])


@contextmanager
def evaluation_mode(model: Autoencoder, trainer: Any = None) -> Iterator[None]:
    """Inside: eval mode, no gradients, averaged weights where averaging is on; the random state is as before afterwards."""
    averaging = [callback for callback in (trainer.callbacks if trainer else []) if isinstance(callback, WeightAveraging)]
    training = model.training
    model.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for callback in averaging:
            callback.on_validation_epoch_start(trainer, model)
        try:
            yield
        finally:
            for callback in averaging:
                callback.on_validation_epoch_end(trainer, model)
            model.train(training)
