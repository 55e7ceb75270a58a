"""The contract of every model of the zoo, and what all of them share: parameter groups, noise by position, the clock.

A model is its losses: `losses(batch)` returns one scalar whose gradient gives every parameter its own objective, so that one
forward pass, one backward pass and one optimizer step train adversarial methods too. What a parameter group must not feel is
detached by the model; what differs between parameter groups (learning rate, betas, schedule, clipping) is kept here.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import WeightAveraging
from torch import Generator, Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.priors import Prior, StandardNormal

Schedule = Callable[[float], float]  # share of max_images already seen -> factor on the learning rate
REMEDY = (  # for training that diverged
    "lower the learning rate (optimizer.lr, or model.param_groups.<name>.lr) or set trainer.gradient_clip_val=1, "
    "and start anew or resume from the last checkpoint."
)


@dataclass
class TrainingConfig:
    """How a model is trained, beside its method."""

    batch_size: int  # global: images per optimizer step over all ranks and accumulation
    max_images: int  # of this stage
    optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
    schedule: Schedule = lambda spent: 1.0
    group_schedules: dict[str, Schedule] = field(default_factory=dict)
    images_before: int = 0  # images that earlier stages have seen: a part of max_images of the whole method
    seed: int = 0
    compile: bool = False


def seed_of(*key: int) -> int:
    """A 63-bit seed from integers (splitmix64 on each, chained): neighbouring keys give unrelated streams."""
    state = 0
    for part in key:
        state = (state + part + 0x9E3779B97F4A7C15) % 2**64  # a negative part is a number modulo 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1


class Autoencoder(pl.LightningModule):
    """Base class. A method overrides `losses`, `encode` and `decode`; `param_groups`, `frozen_groups`, `initialize` where it needs them.

    Args, which a method hands on as `options` where it says nothing else:
        image_shape: (channels, height, width).
        latent_dim: Dimensions of the flat latent.
        prior: Density over latents that `sample` draws from; N(0, I) by default.
        param_groups: Per parameter group, what differs from the optimizer's settings: lr, betas, weight_decay, …
    """

    can_encode = True
    reads_attributes = False  # whether `encode` looks at them
    batch_multiple = 1  # images on a device come in multiples of it: 2 where neighbours form pairs
    check_finite_loss = False  # whether each loss is looked at before it moves a weight: flows, where one bad log-determinant spoils all
    training_config: TrainingConfig
    decoder: nn.Module

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        prior: Prior | None = None,
        param_groups: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape  # a list, where it comes from a checkpoint
        self.image_shape = (channels, height, width)
        self.latent_dim = latent_dim
        self.original_values = math.prod(self.image_shape)  # of an image without what it is padded with; the data say
        self.prior = prior if prior is not None else StandardNormal(latent_dim)
        self.group_options = {name: dict(options) for name, options in (param_groups or {}).items()}
        self.provenance: dict[str, Any] = {}  # configuration and versions, for the checkpoint
        self.gradient_norms: dict[str, Tensor] = {}
        self.log_gradient_norms = True
        # The clock is a tensor, not a buffer: a Python number would recompile the loss, a buffer would be averaged by EMA.
        self.images_seen = torch.zeros((), dtype=torch.int64)
        self._first_row, self._rows, self._global_rows = torch.zeros((), dtype=torch.int64), 0, 0  # of the batch at hand
        self._losses = self.losses

    # What a method is -------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The training losses of a float batch: "loss" is minimised, every other scalar is logged under its own name."""
        raise NotImplementedError

    def encode(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        """The deterministic code of each image: (B, C, H, W) in [-1, 1] -> (B, latent_dim)."""
        raise NotImplementedError

    def decode(self, latent: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, C, H, W); values beyond [-1, 1] are clamped where images are shown or measured. By `decoder`."""
        return self.decoder(latent)

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameter groups by name, each trainable parameter in exactly one. One group by default."""
        return {"autoencoder": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def frozen_groups(self) -> Iterable[str]:
        """Names of the parameter groups that are frozen in this step (warm-up, gating). Asked after the backward pass; ranks must agree."""
        return ()

    def initialize(self, batch: Batch) -> None:
        """Sets what depends on the data, once before the first step, from up to 1,024 float training images; same on all ranks."""

    def prepare_data_cache(self, read: Callable[[str], Iterable[Batch]]) -> None:
        """Looks at the data before the first step of every session: a resumed one, too, as what is kept here is in no checkpoint.

        `read("train")` or "val" gives the split once, in float batches in the order of the store, all of it on every rank.
        """

    def set_attribute_names(self, names: tuple[str, ...]) -> None:
        """Says what the columns of `attributes` are called, once before training. Raises ZooError if one is missed."""

    def start_from(self, trained: "Autoencoder | None") -> None:
        """Takes over what an earlier stage has trained, if there was one, before the first step. Raises ZooError if it does not fit."""
        if trained is not None:
            raise ZooError(f"{type(self).__name__} has no earlier stage; leave pretrain out.")

    def locate_nonfinite(self, batch: Batch) -> str:
        """What makes the loss of this batch not finite, for example the first layer whose output is not; "" if nobody knows."""
        return ""

    # What every method can do -----------------------------------------------------------------------------------------

    def reconstruct(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.decode(self.encode(image, attributes))

    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draws images (count, C, H, W)."""
        return self.decode(self.prior.sample(count, generator))

    def interpolate(self, latent_a: Tensor, latent_b: Tensor, steps: int) -> Tensor:
        """Decodes the straight lines from a to b, both ends included: (B, latent_dim) × 2 -> (B, steps, C, H, W)."""
        weight = torch.linspace(0, 1, steps, device=latent_a.device, dtype=latent_a.dtype)[None, :, None]
        line = torch.lerp(latent_a[:, None], latent_b[:, None], weight)  # (B, steps, latent_dim)
        return self.decode(line.flatten(0, 1)).unflatten(0, (-1, steps))

    def latents_for_prior(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        """The latents a fitted prior should follow: codes here, posterior samples for a VAE. (B, C, H, W) -> (B, latent_dim)."""
        return self.encode(image, attributes)

    def log_weights(self, image: Tensor, draws: int) -> Tensor | None:
        """log p(x, z) - log q(z|x) in nats for posterior draws z: (B, C, H, W) in [-1, 1] -> (B, draws); a flow's exact log p(x): (B, 1).

        Their mean estimates the ELBO, their log-mean-exp the tighter importance-weighted bound. None without a likelihood.
        """
        return None

    # Randomness belongs to the position in the global batch -------------------------------------------------------------

    def set_batch_rng(self, key: tuple[int, ...], first_row: int, rows: int, global_rows: int) -> None:
        """Says where the coming batch stands: its `rows` begin at `first_row` of a global batch of `global_rows`; reseeds from `key`.

        No generator state needs saving for an exact resume, and 2 ranks draw what 1 rank draws.
        """
        self._rng_position = (key, first_row, rows, global_rows)
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed_of(*key))  # torch.manual_seed does the same, 0.6 ms slower
        else:
            torch.manual_seed(seed_of(*key))
        self._first_row.fill_(first_row)
        self._rows, self._global_rows = rows, global_rows

    def normal(self, count: int, *shape: int) -> Tensor:
        """N(0, 1) draws (count, *shape): this rank's rows of the draws for the whole global batch."""
        return self._draw(torch.randn, count, shape)

    def uniform(self, count: int, *shape: int) -> Tensor:
        """U[0, 1) draws (count, *shape): this rank's rows of the draws for the whole global batch."""
        return self._draw(torch.rand, count, shape)

    def _draw(self, draw: Callable[..., Tensor], count: int, shape: tuple[int, ...]) -> Tensor:
        if self._global_rows and count != self._rows:
            raise ValueError(f"{count} rows of noise for a batch of {self._rows}: other ranks would draw the same rows")
        drawn = draw(self._global_rows or count, *shape, device=self.device, dtype=self.dtype)
        if len(drawn) == count:
            return drawn
        return drawn.index_select(0, self._first_row + torch.arange(count, device=drawn.device))

    def linear_warmup(self, images: int) -> Tensor:
        """Grows from 0 to 1 over the first `images` images, then stays: scalar tensor. Always 1 if `images` is 0."""
        return (self.images_seen.float() / images).clamp(max=1) if images else torch.ones((), device=self.device)

    # Training: one loss, one backward, one optimizer ---------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
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
        optimizer = self.training_config.optimizer(groups)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer

    def on_fit_start(self) -> None:
        self.images_seen, self._first_row = self.images_seen.to(self.device), self._first_row.to(self.device)
        self._losses = self.losses
        if self.training_config.compile:
            import torch._inductor.config as inductor

            inductor.fallback_random = True  # compiled draws equal eager ones
            self._losses = torch.compile(self.losses, fullgraph=True)

    def on_train_start(self) -> None:
        trainer: Any = self.trainer
        data = trainer.datamodule
        with torch.no_grad():
            if trainer.global_step == 0:
                self.initialize(data.some_images("train", 1024))
                if trainer.world_size > 1:  # rounding may differ between devices
                    for tensor in self.state_dict().values():
                        dist.broadcast(tensor, 0)
            self.prepare_data_cache(data.read)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        training_config, trainer = self.training_config, self.trainer
        seen = trainer.global_step * training_config.batch_size
        self.images_seen.fill_(seen)
        pieces = trainer.accumulate_grad_batches
        rows = training_config.batch_size // (trainer.world_size * pieces)
        first_row = (trainer.global_rank * pieces + batch_idx % pieces) * rows
        self.set_batch_rng((training_config.seed, seen), first_row, rows, training_config.batch_size)
        for group in trainer.optimizers[0].param_groups:
            schedule = training_config.group_schedules.get(group["name"], training_config.schedule)
            group["lr"] = group["initial_lr"] * schedule(seen / training_config.max_images)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        losses = self._losses(batch)
        if self.check_finite_loss:
            self._stop_unless_finite(losses["loss"], batch)
        return losses

    def _stop_unless_finite(self, loss: Tensor, batch: Batch) -> None:
        """Raises ZooError on all ranks if the loss of one of them is not finite; no weight has moved yet."""
        bad = (~loss.detach().isfinite()).float()
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1  # zoo.bench has no Trainer
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
        """Clips each parameter group on its own: under one global norm a loud critic would silence the autoencoder."""
        if gradient_clip_val is None and not self.log_gradient_norms:
            return
        self.gradient_norms = {}
        for group in optimizer.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if moving and gradient_clip_val is not None:
                self.gradient_norms[group["name"]] = clip_grad_norm_(moving, gradient_clip_val, foreach=True)
            elif moving:
                self.gradient_norms[group["name"]] = get_total_norm([p.grad for p in moving if p.grad is not None], foreach=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["zoo"] = self.provenance


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


def check_output_range(model: Autoencoder) -> None:
    """Raises ZooError if the decoder cannot make dark pixels: images live in [-1, 1], a sigmoid stays in [0, 1]."""
    with evaluation_mode(model):  # BatchNorm must not learn from noise
        generator = torch.Generator().manual_seed(0)
        wild = 1e5 * torch.randn(64, model.latent_dim, generator=generator).to(model.device)  # fresh weights hardly answer to less
        lowest = model.decode(wild).min().item()
    if lowest >= 0:
        raise ZooError(
            f"The decoder of {type(model).__name__} never goes below 0, but images are in [-1, 1]; "
            f"end it with tanh or a linear layer, not a sigmoid."
        )
