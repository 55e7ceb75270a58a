"""LTAE: autoencoder with a transformed latent space (Cha, Kim & Lee, "On the Transformation of Latent Space in Autoencoders", 1901.08479).

    z = f(x)      L = α ⊙ (z + β)      T = n(z)
    loss = mean (x - g(L + ε))² + w · mean (T - L)²                 α, β learned, one for each dimension

S: n standardises every code over its dimensions, ε ~ N(0, σ²I). All codes then lie near the sphere of radius √D on which N(0, I)
concentrates, so that is what samples are drawn from.      M: n takes the least value of a code to 0 and the largest to 1, ε ~ U(-σ, σ).

Written after the code of a students' project that cites the paper. Its min-max runs over the whole batch; here it is per image, as S is
there, too: a code depends on no neighbours, and 2 ranks equal 1. The variance is that of the D values (divided by D, not D - 1), and α and
β start at 1 and 0, where L = z, not at random. As there, gradients flow through T, too.

What is new: the encoder's last layer is rescaled before the first step, so that every dimension starts with mean 0 and variance 1. The
codes of a fresh encoder are nearly the same for all images, and so are their normalised forms: drawn to these, all codes became one on
faces (σ = 0.05, w from 0.1 to 1).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.losses import at_least_float32, mean_squared_error
from zoo.models.base import Autoencoder
from zoo.models.parts import backbone_of
from zoo.priors import Gaussian

EPSILON = 1e-5  # least variance, and least range, of a code


class LTAE(Autoencoder):
    """Autoencoder whose code L = α(z + β) is drawn to the normalised z. One parameter group.

    Args:
        backbone: Makes the encoder and the decoder, and knows the image shape.
        latent_dim: D, at least 2.
        variant: "S" (standardised; the prior is N(0, I)) or "M" (min-max; the prior is a Gaussian fitted to the codes).
        sigma: σ, size of the noise on codes in training; published: 0.01 to 0.09.
        weight: w, of the distance between T and L.
    """

    def __init__(
        self,
        image_size: int | None = None,
        channels: int | None = None,
        latent_dim: int = 32,
        backbone: Any = "conv",
        variant: str = "S",
        sigma: float = 0.05,
        weight: float = 1.0,
        **options: Any,
    ) -> None:
        backbone = backbone_of(backbone, image_size, channels)
        if variant not in ("S", "M"):
            raise ZooError(f"model.variant is '{variant}'; it must be S (standardised codes) or M (min-max).")
        if latent_dim < 2:
            raise ZooError(f"model.latent_dim={latent_dim} must be at least 2: codes are normalised over their dimensions.")
        if sigma < 0 or weight < 0:
            raise ZooError(f"model.sigma={sigma} and model.weight={weight} must not be below 0.")
        if variant == "M":
            options.setdefault("prior", Gaussian(latent_dim))
        super().__init__(backbone.image_shape, latent_dim, **options)
        self.encoder = backbone.encoder(latent_dim)
        self.decoder = backbone.decoder(latent_dim)
        linear = [layer for layer in self.encoder.modules() if isinstance(layer, nn.Linear)]
        if not linear or linear[-1].out_features != latent_dim:
            raise ZooError(
                f"The encoders of a {type(backbone).__name__} do not end with a linear layer, as LTAE needs; set model/backbone=conv."
            )
        self.alpha, self.beta = nn.Parameter(torch.ones(latent_dim)), nn.Parameter(torch.zeros(latent_dim))
        self.variant, self.sigma, self.weight = variant, sigma, weight

    def initialize(self, batch: Batch) -> None:
        """Gives every dimension of the encoder's output mean 0 and variance 1 over (at most 256 of) these images."""
        z = self.encoder(batch.image[:256])
        scale = z.std(0).clamp(min=EPSILON)  # (latent_dim,)
        last = [layer for layer in self.encoder.modules() if isinstance(layer, nn.Linear)][-1]
        last.weight.div_(scale[:, None])
        last.bias.sub_(z.mean(0)).div_(scale)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        z = at_least_float32(self.encoder(batch.image))  # (B, latent_dim)
        latent = self.transformed(z)
        noise = self.normal(*z.shape) if self.variant == "S" else 2 * self.uniform(*z.shape) - 1
        reconstruction = mean_squared_error(batch.image, self.decode(latent + self.sigma * noise))
        distance = mean_squared_error(self.normalised(z), latent)
        return {"loss": reconstruction + self.weight * distance, "reconstruction": reconstruction, "target": distance}

    def transformed(self, z: Tensor) -> Tensor:
        """L = α(z + β): (B, latent_dim) -> (B, latent_dim)."""
        return self.alpha * (z + self.beta)

    def normalised(self, z: Tensor) -> Tensor:
        """T, every code with mean 0 and variance 1 (S), or from 0 to 1 (M): (B, latent_dim) -> (B, latent_dim)."""
        if self.variant == "S":
            return layer_norm(z, (self.latent_dim,), eps=EPSILON)
        least, largest = z.aminmax(dim=1, keepdim=True)
        return (z - least) / (largest - least).clamp(min=EPSILON)

    def encode(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        return self.transformed(at_least_float32(self.encoder(image)))  # (B, latent_dim)
