"""VAE: variational autoencoder (Kingma & Welling, 1312.6114) with a Gaussian decoder of fixed or learned scale, and β (β-VAE).

    q(z|x) = N(μ(x), σ²(x))      p(x|z) = N(g(z), γ²I)      p(z) = N(0, I)
    loss   = E_q[-log p(x|z)] + β · KL(q(z|x) ‖ p(z))                            nats per image, mean over the batch

The reconstruction term is complete (‖x - g(z)‖²/2γ² + D·log γ + D/2·log 2π, D = C·H·W), so with β = 1 the loss is the negative
ELBO. γ is a standard deviation on images in [-1, 1]. It is learned by default (σ-VAE, 2006.13202; Dai & Wipf, 1903.05789): it starts at
the data's standard deviation and shrinks to the reconstruction error, which weighs the two terms without a constant to tune.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.losses import at_least_float32, gaussian_nll, kl_to_standard_normal
from zoo.models.base import Autoencoder
from zoo.models.parts import backbone_of


class VAE(Autoencoder):
    """Variational autoencoder.

    Args:
        backbone: Makes the encoder and the decoder, and knows the image shape.
        gamma: Decoder standard deviation on [-1, 1] images, or "learned".
        gamma_lr: Learning rate of log γ, where it is learned.
        beta: Weight of the KL term.
        kl_warmup: The weight grows from 0 to β over this many images.
        **options: As in Autoencoder. The parameter groups are "autoencoder" and, if γ is learned, "scale".
    """

    def __init__(
        self,
        image_size: int | None = None,
        channels: int | None = None,
        latent_dim: int = 32,
        backbone: Any = "conv",
        gamma: float | str = "learned",
        gamma_lr: float = 0.01,
        beta: float = 1.0,
        kl_warmup: int = 0,
        **options: Any,
    ) -> None:
        backbone = backbone_of(backbone, image_size, channels)
        super().__init__(backbone.image_shape, latent_dim, **options)
        if gamma != "learned" and not (isinstance(gamma, int | float) and gamma > 0):
            raise ZooError(f"model.gamma is {gamma!r}; it must be 'learned' or a positive standard deviation.")
        self.encoder = backbone.encoder(2 * latent_dim)
        self.decoder = backbone.decoder(latent_dim)
        self.learned = gamma == "learned"
        if self.learned:
            self.group_options["scale"] = {"lr": gamma_lr} | self.group_options.get("scale", {})
        self.log_gamma = nn.Parameter(torch.zeros(()) if self.learned else torch.tensor(math.log(float(gamma))), requires_grad=self.learned)
        self.beta, self.kl_warmup = beta, kl_warmup

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        nets = [*self.encoder.parameters(), *self.decoder.parameters()]
        return {"autoencoder": nets, "scale": [self.log_gamma]} if self.learned else {"autoencoder": nets}

    def initialize(self, batch: Batch) -> None:
        if self.learned:
            self.log_gamma.data.copy_(batch.image.std().log())

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        mean, log_variance = self.posterior(batch.image)
        latent = reparameterised(mean, log_variance, self.normal(*mean.shape))  # (B, latent_dim)
        distortion = gaussian_nll(batch.image, self.decode(latent), self.log_gamma)
        rate = kl_to_standard_normal(mean, log_variance)
        beta = self.beta * self.linear_warmup(self.kl_warmup)
        return {
            "loss": distortion + beta * rate,
            "distortion": distortion,
            "rate": rate,
            "elbo": -distortion - rate,
            "gamma": self.log_gamma.exp(),
        }

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ² of q(z|x), in float32 at least: (B, C, H, W) -> (B, latent_dim) × 2."""
        return moments(self.encoder(image))

    def encode(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        return self.posterior(image)[0]  # (B, latent_dim)

    def log_weights(self, image: Tensor, draws: int) -> Tensor:
        mean, log_variance = (part.repeat_interleave(draws, 0) for part in self.posterior(image))  # (B·draws, latent_dim)
        noise = self.normal(len(image), draws, self.latent_dim).flatten(0, 1)
        latent = reparameterised(mean, log_variance, noise)
        squared = (
            (at_least_float32(self.decode(latent)) - image.repeat_interleave(draws, 0)).square().flatten(1).sum(1, dtype=torch.float64)
        )
        dimensions = image[0].numel()
        log_likelihood = -squared * (-2 * self.log_gamma).exp() / 2 - dimensions * (self.log_gamma + math.log(2 * math.pi) / 2)
        log_posterior = -0.5 * (noise.square() + log_variance + math.log(2 * math.pi)).sum(1)
        return (log_likelihood + self.prior.log_prob(latent) - log_posterior).unflatten(0, (-1, draws))  # (B, draws)

    def latents_for_prior(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        mean, log_variance = self.posterior(image)
        return reparameterised(mean, log_variance, self.normal(*mean.shape))


def moments(encoded: Tensor) -> tuple[Tensor, Tensor]:
    """μ and log σ², in float32 at least and bounded, from an encoder's output: (B, 2·latent_dim) -> (B, latent_dim) × 2."""
    mean, log_variance = at_least_float32(encoded).chunk(2, dim=1)
    return mean, log_variance.clamp(-10, 10)


def reparameterised(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """μ + σ · noise: (B, latent_dim) × 3 -> (B, latent_dim)."""
    return mean + (0.5 * log_variance).exp() * noise
