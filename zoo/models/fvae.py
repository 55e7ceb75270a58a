"""f-VAE: a VAE whose posterior and prior share a flow, so that codes have the size of the image and nothing is blurred by a bottleneck
(Su & Wu 2018, "f-VAEs: Improve VAEs with Conditional Flows", 1809.05861).

    z = F_x(u) = F(v)      v = E(x) + σ₁u      u ~ N(0, I)          p(x|z) = N(G(F⁻¹(z)), σ₂²I)      p(z) = N(0, I)
    distortion = ‖x - G(v)‖² / 2σ₂² + D·log σ₂ + D/2·log 2π
    rate       = ½‖z‖² - ½‖u‖² - D·log σ₁ - log|det ∂F/∂v|
    loss       = distortion + rate ≥ -log p(x) in expectation over u          nats per image, mean over the batch, D = C·H·W

The rate is log q(z|x) - log p(z): z and u have as many dimensions, so D/2·log 2π cancels there, but not in the distortion. E and G may be
any nets, as only u → z enters the determinant. Two ends of the family:

    Case 1   F = identity, σ₁(x) per value (flow=null, sigma1=image): a VAE
    Case 2   E = G = identity, σ₁ = σ₂ = σ (backbone.squeezes=0, output=linear): a flow whose images have noise σ

Unlike the paper's code, images are dequantised: without it the likelihood has no bound as σ₂ falls. Its blog leaves out D·log σ₂.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.losses import LEVEL, at_least_float32, bits_per_dim
from zoo.models.base import Autoencoder
from zoo.models.glow import STREAM
from zoo.models.parts import backbone_of, built
from zoo.nets.flows import Flow, zero_conv
from zoo.nets.fvae import FVAEBackbone, Identity
from zoo.nets.glow import ImageFlow
from zoo.priors import StandardNormal

DEFAULT_FLOW = partial(ImageFlow, levels=None, depth=4, width=64, scale="tanh", squeeze_first=False)


class FVAE(Autoencoder):
    """VAE with a conditional flow. The parameter groups are "autoencoder" and, if σ₁ or σ₂ is learned, "scale".

    Args:
        backbone: Makes E and G, and knows the image shape.
        flow: Makes F for codes of a shape (C, H, W); None = the identity.
        sigma1: Standard deviation of v: a number, "learned" (one for all), or "image" (one for each value, from E(x)).
        sigma2: Standard deviation of the decoder on [-1, 1] images: a number or "learned".
        start: What learned ones begin with.
        floor: Below what σ₂ cannot be learned.
        scale_lr: Learning rate of their logarithms.
        dequantise: Whether U(0, 2/255) is added to images in training.
        temperature: Standard deviation of the latents that samples are drawn from.
        **options: As in Autoencoder, without a prior.
    """

    check_finite_loss = True

    def __init__(
        self,
        image_size: int | None = None,
        channels: int | None = None,
        backbone: FVAEBackbone | None = None,
        flow: Callable[[tuple[int, int, int]], Flow] | None = DEFAULT_FLOW,
        sigma1: float | str = "learned",
        sigma2: float | str = "learned",
        start: float = 1.0,
        floor: float = 0.0,
        scale_lr: float = 0.01,
        dequantise: bool = True,
        temperature: float = 1.0,
        **options: Any,
    ) -> None:
        if backbone is None and image_size is not None:
            backbone = FVAEBackbone(image_size, channels or 3, squeezes=2, blocks=3, width=48)
        backbone = backbone_of(backbone, image_size, channels)
        dimensions = math.prod(backbone.image_shape)
        super().__init__(backbone.image_shape, dimensions, StandardNormal(dimensions, temperature), **options)
        for name, sigma, words in (("sigma1", sigma1, ("learned", "image")), ("sigma2", sigma2, ("learned",))):
            if sigma not in words and not (type(sigma) in (int, float) and sigma > 0):  # type: ignore[operator]
                raise ZooError(f"model.{name} is {sigma!r}; it must be {' or '.join(map(repr, words))} or a positive standard deviation.")
        if not 0 <= floor < start:
            raise ZooError(f"model.floor={floor} must be at least 0 and below model.start={start}, where learned scales begin.")
        self.code_shape = backbone.code_shape
        self.encoder, self.decoder = backbone.encoder(), backbone.decoder()
        flow = built(flow, "flow")
        self.flow = flow(self.code_shape) if flow else Identity(self.code_shape)
        self.scales = zero_conv(self.code_shape[0], self.code_shape[0]) if sigma1 == "image" else None  # log σ₁ from E(x)
        self.floor = floor if sigma2 == "learned" else 0.0
        self.log_sigma1 = scale(start if isinstance(sigma1, str) else sigma1, learned=sigma1 == "learned")
        self.log_excess = scale(start - floor if isinstance(sigma2, str) else sigma2, learned=sigma2 == "learned")  # of σ₂ over the floor
        if self.log_sigma1.requires_grad or self.log_excess.requires_grad:
            self.group_options["scale"] = {"lr": scale_lr} | self.group_options.get("scale", {})
        self.dequantise, self.middle = dequantise, LEVEL / 2 if dequantise else 0.0  # middle: the mean of the noise

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        scales = [p for p in (self.log_sigma1, self.log_excess) if p.requires_grad]
        nets = [p for net in (self.encoder, self.decoder, self.flow, self.scales) if net is not None for p in net.parameters()]
        return {name: parameters for name, parameters in {"autoencoder": nets, "scale": scales}.items() if parameters}

    def initialize(self, batch: Batch) -> None:
        count = len(batch.image)
        self.set_batch_rng((STREAM,), 0, count, count)
        mean, log_sigma1 = self.posterior(self.dequantised(batch.image))
        self.flow.initialize(mean + log_sigma1.exp() * self.normal(*mean.shape))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        image = self.dequantised(batch.image)
        distortion, rate = (part.mean() for part in self.parts(image, *self.posterior(image), self.normal(len(image), *self.code_shape)))
        loss = distortion + rate
        scales = {"sigma2": self.log_sigma2().exp()} | ({} if self.scales else {"sigma1": self.log_sigma1.exp()})
        bits = {"bits_per_dim": bits_per_dim(loss, self.latent_dim, originals=self.original_values)} if self.dequantise else {}
        return {"loss": loss, "distortion": distortion, "rate": rate, "elbo": -loss, **bits, **scales}

    def parts(self, image: Tensor, mean: Tensor, log_sigma1: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """-log p(x|z) and log q(z|x) - log p(z) in nats: dequantised images, their posterior and u (B, *code_shape) -> (B,) × 2."""
        v = mean + log_sigma1.exp() * u  # (B, *code_shape)
        z, log_det = self.flow(v)  # (B, D), (B,)
        log_sigma2 = self.log_sigma2()
        squared = (at_least_float32(image) - at_least_float32(self.decoder(v))).square().flatten(1).sum(1)
        distortion = squared * (-2 * log_sigma2).exp() / 2 + self.latent_dim * (log_sigma2 + math.log(2 * math.pi) / 2)
        rate = (
            0.5 * (at_least_float32(z).square().sum(1) - u.square().flatten(1).sum(1)) - log_sigma1.expand_as(u).flatten(1).sum(1) - log_det
        )
        return distortion, rate

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) and log σ₁, in float32 at least: (B, C, H, W) -> (B, *code_shape) and a shape that broadcasts to it."""
        mean = at_least_float32(self.encoder(image))
        log_sigma1 = self.log_sigma1 if self.scales is None else self.log_sigma1 + at_least_float32(self.scales(mean)).clamp(-5, 5)
        return mean, log_sigma1

    def log_sigma2(self) -> Tensor:
        """log σ₂, scalar."""
        return (self.floor + self.log_excess.exp()).log() if self.floor else self.log_excess

    def dequantised(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W), somewhere in their bins if that is asked for."""
        return image + LEVEL * self.uniform(*image.shape) if self.dequantise else image

    def encode(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        return self.flow(at_least_float32(self.encoder(image + self.middle)))[0]  # (B, D), of the centre of each bin

    def decode(self, latent: Tensor) -> Tensor:
        return self.decoder(self.flow.inverse(latent)) - self.middle  # (B, C, H, W)

    def latents_for_prior(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        mean, log_sigma1 = self.posterior(image)
        return self.flow(mean + log_sigma1.exp() * self.normal(*mean.shape))[0]

    def log_weights(self, image: Tensor, draws: int) -> Tensor:
        noise = self.normal(len(image), draws, *self.code_shape).flatten(0, 1)
        mean, log_sigma1 = self.posterior(image)
        image, mean, log_sigma1 = (part.repeat_interleave(draws, 0) for part in (image, mean, log_sigma1.expand_as(mean)))
        distortion, rate = self.parts(image, mean, log_sigma1, noise)
        return -(distortion.double() + rate.double()).unflatten(0, (-1, draws))  # (B, draws)

    def locate_nonfinite(self, batch: Batch) -> str:
        image = self.dequantised(batch.image)
        mean, log_sigma1 = self.posterior(image)
        v = mean + log_sigma1.exp() * self.normal(*mean.shape)
        if not mean.isfinite().all():
            return "the encoder's output"
        if not v.isfinite().all() or not self.log_sigma2().isfinite():
            return "the scales σ₁ and σ₂"
        if found := self.flow.first_not_finite(v):
            return f"the flow, {found}"
        return "" if self.decoder(v).isfinite().all() else "the decoder's output"


def scale(value: float, learned: bool) -> nn.Parameter:
    """The logarithm of a standard deviation, scalar."""
    return nn.Parameter(torch.tensor(math.log(value)), requires_grad=learned)
