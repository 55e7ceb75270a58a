"""What a method is: the part of every model that a method defines or uses; zoo.models.base adds how Lightning trains and measures it.

A model is its losses: `losses(batch)` returns one scalar whose gradient gives every parameter its own objective, so that one
forward pass, one backward pass and one optimizer step train adversarial methods too. What a parameter group must not feel is
detached by the model.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn

from zoo.batch import Batch, as_batch
from zoo.errors import ZooError
from zoo.hardware import distributed
from zoo.models.parts import built
from zoo.models.training_config import TrainingConfig, seed_of
from zoo.nets.described import Described
from zoo.priors import Prior, StandardNormal

VALIDATION, PRIOR = -1, -2  # keys of random streams that training does not use


class Method(Described, pl.LightningModule):
    """A method overrides `losses`, `encode` and `decode`; `param_groups`, `frozen_groups`, `initialize` where it needs them.

    Args, which a method hands on as `options` where it says nothing else:
        image_shape: (channels, height, width).
        latent_dim: Dimensions of the flat latent.
        prior: Density over latents that `sample` draws from; N(0, I) by default.
        param_groups: Per parameter group, what differs from the optimizer's settings: lr, betas, weight_decay, …
        optimizer: Makes the optimizer of parameter groups, as functools.partial(torch.optim.AdamW, weight_decay=0.01); by default Adam.
        lr: Learning rate of the groups that have none of their own.
    """

    can_encode = True
    reads_attributes = False  # whether `encode` looks at them
    batch_multiple = 1  # images on a device come in multiples of it: 2 where neighbours form pairs
    check_finite_loss = False  # whether each loss is looked at before it moves a weight: flows, where one bad log-determinant spoils all
    decoder: nn.Module

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        prior: Prior | None = None,
        param_groups: Mapping[str, Mapping[str, Any]] | None = None,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        lr: float = 1e-3,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape  # a list, where it comes from a checkpoint
        self.image_shape = (channels, height, width)
        self.latent_dim = latent_dim
        self.original_values = math.prod(self.image_shape)  # of an image without what it is padded with; the data say
        self.prior: Prior = built(prior, "prior") or StandardNormal(latent_dim)
        self.optimizer, self.lr = built(optimizer, "optimizer") or torch.optim.Adam, lr
        self.training_config = TrainingConfig()
        self.group_options = {name: dict(options) for name, options in (param_groups or {}).items()}
        self.provenance: dict[str, Any] = {}  # configuration and versions, for the checkpoint
        self.end_reason = ""  # why the method itself has ended its training, where it has
        self.gradient_norms: dict[str, Tensor] = {}
        self.log_gradient_norms = True
        # The clock is a tensor, not a buffer: a Python number would recompile the loss, a buffer would be averaged by EMA.
        self.images_seen = torch.zeros((), dtype=torch.int64)
        self._first_row, self._rows, self._global_rows = torch.zeros((), dtype=torch.int64), 0, 0  # of the batch at hand

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

    def start_from(self, trained: Any) -> None:
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
        """Draws images (count, C, H, W). Raises ZooError if the prior is to be fitted first."""
        if self.prior.needs_fit and not self.prior.is_fitted():
            raise ZooError(f"{type(self).__name__} samples from a prior that is fitted to its codes: call model.fit_prior(loader) first.")
        return self.decode(self.prior.sample(count, generator))

    def fit_prior(self, loader: Iterable[Any], images: int = 10_000, seed: int = 0) -> None:
        """Fits the prior to the latents of the first `images` of the loader, if it is of the kind that is fitted; rank 0's on all ranks.

        Call it in eval mode and without gradients (`evaluation_mode`).
        """
        latents, count = [], 0
        for given in loader if self.prior.needs_fit else ():
            batch = as_batch(given).to(self.device)
            self.set_batch_rng((PRIOR, seed, int(batch.index[0])), 0, len(batch.image), len(batch.image))
            latents.append(self.latents_for_prior(batch.image, batch.attributes))
            count += len(batch.image)
            if count >= images:
                break
        if latents:
            self.prior.fit(torch.cat(latents)[:images], seed)
            broadcast(self.prior.state_dict().values())  # of a flow: parameters, too

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


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Makes the tensors of all ranks those of rank 0."""
    if distributed():
        for tensor in tensors:
            dist.broadcast(tensor, 0)
