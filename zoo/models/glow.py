"""Glow on pixels: a flow with the exact likelihood of images (Kingma & Dhariwal 2018, 1807.03039). The control for f-VAE.

    loss   = -log p(x) = ½‖z‖² + D/2·log 2π - log|det ∂z/∂x|      z = F(x), D = C·H·W; nats per image, mean over the batch

Grey levels are integers and a density of integers has no bound: x = v/127.5 - 1 + U(0, one level). The latent has as many dimensions as
the image. With n_bits < 8 images keep their highest bits only, as in the paper's pictures; such a model says nothing of 8-bit images.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.losses import LEVEL, at_least_float32, bits_per_dim
from zoo.models.base import Autoencoder
from zoo.models.parts import built
from zoo.nets.flows import Flow
from zoo.nets.glow import ImageFlow
from zoo.priors import StandardNormal

STREAM = 61  # key of the random stream that the first images are dequantised with

DEFAULT_FLOW = partial(ImageFlow, levels=None, depth=6, width=64, scale="tanh")


class Glow(Autoencoder):
    """An invertible map of images.

    Args:
        image_size, channels: Height and width in pixels; 1 or 3.
        flow: Makes F for images of a shape (C, H, W).
        n_bits: Bits of a grey value, 1 to 8; images are rounded down to 2^n_bits levels.
        temperature: Standard deviation of the latents that samples are drawn from. The likelihood knows only 1.
    """

    check_finite_loss = True

    def __init__(
        self,
        image_size: int,
        channels: int = 3,
        flow: Callable[[tuple[int, int, int]], Flow] = DEFAULT_FLOW,
        n_bits: int = 8,
        temperature: float = 1.0,
        **options: Any,
    ) -> None:
        if type(n_bits) is not int or not 1 <= n_bits <= 8:
            raise ZooError(f"model.n_bits={n_bits} must be a whole number from 1 to 8.")
        shape = (channels, image_size, image_size)
        super().__init__(shape, math.prod(shape), StandardNormal(math.prod(shape), temperature), **options)
        self.flow = built(flow, "flow")(shape)
        self.n_bits, self.bin = n_bits, LEVEL * 2 ** (8 - n_bits)

    def initialize(self, batch: Batch) -> None:
        count = len(batch.image)
        self.set_batch_rng((STREAM,), 0, count, count)
        self.flow.initialize(self.dequantised(batch.image))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        loss = self.negative_log_likelihood(self.dequantised(batch.image)).mean()
        return {"loss": loss, "bits_per_dim": bits_per_dim(loss, self.latent_dim, self.n_bits, self.original_values)}

    def negative_log_likelihood(self, x: Tensor) -> Tensor:
        """-log p(x) in nats: dequantised images (B, C, H, W) -> (B,)."""
        z, log_det = self.flow(x)  # (B, C·H·W), (B,)
        return 0.5 * at_least_float32(z).square().sum(1) + 0.5 * self.latent_dim * math.log(2 * math.pi) - log_det

    def dequantised(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) somewhere in their bins."""
        return self.floored(image) + self.bin * self.uniform(*image.shape)

    def floored(self, image: Tensor) -> Tensor:
        """The lower edges of the bins of images (B, C, H, W)."""
        if self.n_bits == 8:
            return at_least_float32(image)
        levels = 2 ** (8 - self.n_bits)
        return ((at_least_float32(image) + 1) / LEVEL).round().div(levels, rounding_mode="floor") * self.bin - 1

    def encode(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        return self.flow(self.floored(image) + self.bin / 2)[0]  # (B, C·H·W), of the centre of each bin

    def decode(self, latent: Tensor) -> Tensor:
        return self.flow.inverse(latent) - LEVEL / 2  # (B, C, H, W); the grey levels of a bin have their mean there

    def log_weights(self, image: Tensor, draws: int) -> Tensor | None:
        return -self.negative_log_likelihood(image)[:, None] if self.n_bits == 8 else None  # (B, 1), exact

    def locate_nonfinite(self, batch: Batch) -> str:
        return self.flow.first_not_finite(self.dequantised(batch.image))
