"""ACAI: adversarially constrained autoencoder interpolation (Berthelot, Raffel, Roy & Goodfellow, 1807.07543).

    z = f(x)      x̂_α = g(α z₁ + (1 - α) z₂)      α ~ U[0, 0.5]
    autoencoder   ‖x - g(z)‖² + λ d(x̂_α)²                                every ‖·‖² is a mean
    critic        (d(x̂_α) - α)² + d(γ x + (1 - γ) g(z))²

The critic tells how much of the other image an interpolation holds; the autoencoder makes it say 0. Both are updated at once, from one
forward pass, as in the authors' code. There the partner z₂ comes from the reversed batch, here it is the neighbour (i xor 1): the slice
of every rank holds it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.losses import at_least_float32, mean_squared_error
from zoo.models.base import Autoencoder
from zoo.models.parts import backbone_of
from zoo.nets.acai import ACAIBackbone
from zoo.nets.discriminator import call_with_detached_params
from zoo.priors import Gaussian


class ACAI(Autoencoder):
    """Autoencoder with a critic of its interpolations. The parameter groups are "autoencoder" and "critic".

    Args:
        backbone: Makes the encoder, the decoder and the critic, which has the encoder's shape; knows the image shape.
        adv_weight: λ, weight of the critic's opinion in the autoencoder's loss. Presumes mean reductions. None: 0.5, as published, with
            the published network; 0.1 with the shared one, where 0.5 costs the images their detail.
        reg: γ, share of the image in the blend that the critic must call real (published: 0.2).
    """

    batch_multiple = 2

    def __init__(
        self,
        image_size: int | None = None,
        channels: int | None = None,
        latent_dim: int = 32,
        backbone: Any = "conv",
        adv_weight: float | None = None,
        reg: float = 0.2,
        **options: Any,
    ) -> None:
        backbone = backbone_of(backbone, image_size, channels)
        if adv_weight is None:
            adv_weight = 0.5 if isinstance(backbone, ACAIBackbone) else 0.1
        if adv_weight < 0 or not 0 <= reg <= 1:
            raise ZooError(f"model.adv_weight={adv_weight} must not be below 0, and model.reg={reg} must lie in [0, 1].")
        options.setdefault("prior", Gaussian(latent_dim))
        super().__init__(backbone.image_shape, latent_dim, **options)
        self.encoder = backbone.encoder(latent_dim)
        self.decoder = backbone.decoder(latent_dim)
        self.critic = backbone.encoder(latent_dim)
        self.adv_weight, self.reg = adv_weight, reg

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"autoencoder": [*self.encoder.parameters(), *self.decoder.parameters()], "critic": [*self.critic.parameters()]}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        image = batch.image
        latent = at_least_float32(self.encode(image))
        alpha = 0.5 - (self.uniform(len(image), 1) - 0.5).abs()  # (B, 1)
        mixed_latent = torch.lerp(latent[neighbours(len(image), image.device)], latent, alpha)
        output, mixed = at_least_float32(self.decode(torch.cat([latent, mixed_latent]))).chunk(2)  # (B, C, H, W) each

        g_loss = opinion(call_with_detached_params(self.critic, mixed)).square().mean()
        blend = torch.lerp(output, image, self.reg)
        of_mixed, of_blend = opinion(self.critic(torch.cat([mixed, blend]).detach())).chunk(2)  # (B,) each
        d_loss = (of_mixed - alpha[:, 0]).square().mean() + of_blend.square().mean()

        reconstruction = mean_squared_error(image, output)
        return {
            "loss": reconstruction + self.adv_weight * g_loss + d_loss,
            "reconstruction": reconstruction,
            "g_loss": g_loss,
            "d_loss": d_loss,
        }

    def encode(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        return self.encoder(image)  # (B, latent_dim)


def opinion(map: Tensor) -> Tensor:
    """The critic's guess of α: the mean over its map, (B, latent_dim) -> (B,)."""
    return at_least_float32(map).mean(1)


def neighbours(count: int, device: torch.device) -> Tensor:
    """Each image's partner, i xor 1; in validation the last one of an odd number meets itself. (B,) int64."""
    return (torch.arange(count, device=device) ^ 1).clamp(max=count - 1)
