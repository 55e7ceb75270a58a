"""GAN whose generator starts as a VAE's decoder: the non-saturating game of Goodfellow et al. (1406.2661) after a VAE's training.

    discriminator  -E log D(x) - E log (1 - D(G(z)))      z ~ N(0, I), the VAE's own prior
    generator      -E log D(G(z)) + a · mean (x - G(μ(x)))²

The generator is the same module as the decoder and takes over all of its weights. A fresh discriminator would at once destroy what the
VAE has learnt, so the generator rests while the discriminator warms up. The anchor a keeps the reconstructions, ever less.
With pretrain=none the same game starts from scratch: the control.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.losses import mean_squared_error, wide
from zoo.models.base import Autoencoder
from zoo.models.vae import VAE
from zoo.nets.conv import ConvBackbone
from zoo.nets.discriminator import judge
from zoo.nets.vaegan import VAEGANBackbone


class GAN(Autoencoder):
    """Generator and discriminator, which are its players. It cannot encode images.

    Args:
        backbone: Makes the generator, as a VAE's decoder, and the discriminator; knows the image shape.
        latent_dim: Dimensions of the latent.
        rest: Share of the stage's images, at its beginning, during which the generator's parameters rest and the discriminator learns to
            judge it. Once the generator has moved it never rests again, however far a resumed run's budget is raised.
        anchor: a at the first step, weight of the reconstruction beside the generator's loss; needs a VAE to start from.
        anchor_images: Images over which a falls to 0, in a straight line.
        **options: As in Autoencoder.
    """

    can_encode = False

    def __init__(
        self,
        backbone: ConvBackbone | VAEGANBackbone,
        latent_dim: int,
        rest: float = 0.0,
        anchor: float = 0.0,
        anchor_images: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(backbone.image_shape, latent_dim, **options)
        if not 0 <= rest < 1:
            raise ZooError(f"model.rest={rest} must be a share of the stage's images, of at least 0 and below 1.")
        if anchor < 0 or (anchor and anchor_images < 1):
            raise ZooError(
                f"model.anchor={anchor} must not be below 0, and needs model.anchor_images (now {anchor_images}) to fall to 0 over."
            )
        self.generator = backbone.decoder(latent_dim)
        self.discriminator = backbone.discriminator(feature_layer=1)
        self.encoder = backbone.encoder(2 * latent_dim).requires_grad_(False) if anchor else None
        self.rest, self.anchor, self.anchor_images = rest, anchor, anchor_images
        self.train()

    def start_from(self, trained: Autoencoder | None) -> None:
        """The decoder of a VAE becomes the generator, and its encoder stays as it is for the anchor."""
        if trained is None and self.anchor:
            raise ZooError("model.anchor needs the encoder of a VAE, but pretrain=none; set model.anchor=0 or give pretrain.run=RUN.")
        if trained is None:
            return
        if not isinstance(trained, VAE):
            raise ZooError(f"A GAN starts from a VAE, but pretrain is a {type(trained).__name__}; name a run of model=vae.")
        if trained.image_shape != self.image_shape or trained.latent_dim != self.latent_dim:
            theirs, own = (f"{'×'.join(map(str, model.image_shape))} from {model.latent_dim} dimensions" for model in (trained, self))
            raise ZooError(
                f"The VAE of pretrain makes images of {theirs}, this GAN {own}; choose data of the same channels, and set data.image_size "
                f"and model.latent_dim alike."
            )
        if str(trained.decoder) != str(self.generator):  # widths, normalisation, and the range of the output
            raise ZooError("The VAE of pretrain has another decoder than this GAN's generator; give model.backbone the same settings.")
        if self.encoder is not None and str(trained.encoder) != str(self.encoder):
            raise ZooError("The VAE of pretrain has another encoder than model.backbone makes, which the anchor needs; set model.anchor=0.")
        self.generator.load_state_dict(trained.decoder.state_dict())
        if self.encoder is not None:
            self.encoder.load_state_dict(trained.encoder.state_dict())

    def train(self, mode: bool = True) -> "GAN":
        """As ever, but the VAE's encoder stays in eval mode: the anchor is its own μ(x)."""
        super().train(mode)
        if self.encoder is not None:
            self.encoder.eval()
        return self

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"generator": [*self.generator.parameters()], "discriminator": [*self.discriminator.parameters()]}

    def resting(self) -> Iterable[str]:
        images = self.trainer.global_step * self.recipe.batch_size
        begun = next(self.generator.parameters()) in self.trainer.optimizers[0].state
        return ("generator",) if images < self.rest * self.recipe.budget and not begun else ()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        real, count = batch.image, len(batch.image)
        fake = self.decode(self.normal(count, self.latent_dim))  # (B, C, H, W)
        fooling = softplus(-wide(judge(self.discriminator, real, fake)[0][-count:])).mean()  # -log D(G(z)), from logits
        of_real, of_fake = wide(self.discriminator(torch.cat([real, fake.detach()]))[0]).split(count)  # (B,) each
        real_cost, fake_cost = softplus(-of_real).mean(), softplus(of_fake).mean()
        losses = {"generator": fooling, "real_cost": real_cost, "fake_cost": fake_cost}
        if self.encoder is None:
            return {"loss": fooling + real_cost + fake_cost, **losses}
        with torch.no_grad():
            mean = self.encoder(real).chunk(2, dim=1)[0]  # (B, latent_dim)
        distance = mean_squared_error(real, self.decode(mean))
        weight = self.anchor * (1 - self.ramp(self.anchor_images))
        return {"loss": fooling + real_cost + fake_cost + weight * distance, **losses, "anchor": distance}

    def decode(self, latent: Tensor) -> Tensor:
        return self.generator(latent)  # (B, C, H, W)
