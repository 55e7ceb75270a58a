"""AE: the plain deterministic autoencoder, the control for everything.

    L = mean (x - g(f(x)))²                                 mean over values and images, x in [-1, 1]

It has no prior of its own: a full Gaussian is fitted to its codes (ex-post density estimation, RAE, 1903.12436 §4), at fixed
intervals during training and at its end, so that it can sample.
"""

from typing import Any

from torch import Tensor

from zoo.batch import Batch
from zoo.losses import mean_squared_error
from zoo.models.base import Autoencoder
from zoo.models.parts import backbone_of
from zoo.priors import Gaussian


class AE(Autoencoder):
    """Deterministic autoencoder. `backbone` makes its encoder and decoder, and knows the image shape; `options` as in Autoencoder."""

    def __init__(
        self,
        image_size: int | None = None,
        channels: int | None = None,
        latent_dim: int = 32,
        backbone: Any = "conv",
        **options: Any,
    ) -> None:
        backbone = backbone_of(backbone, image_size, channels)
        options.setdefault("prior", Gaussian(latent_dim))
        super().__init__(backbone.image_shape, latent_dim, **options)
        self.encoder = backbone.encoder(latent_dim)
        self.decoder = backbone.decoder(latent_dim)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": mean_squared_error(batch.image, self.decode(self.encode(batch.image)))}

    def encode(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        return self.encoder(image)  # (B, latent_dim)
