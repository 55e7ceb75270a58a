"""GAN whose generator starts as a VAE's decoder: the non-saturating game of Goodfellow et al. (1406.2661) after a VAE's training.

    discriminator  -E log D(x) - E log (1 - D(G(z)))      z ~ N(0, I), the VAE's own prior
    generator      -E log D(G(z)) + a · mean (x - G(μ(x)))²

The generator is the same module as the decoder and takes over all of its weights. A fresh discriminator would at once destroy what the
VAE has learnt, so the generator is frozen while the discriminator warms up. The weight a of its reconstructions falls to 0.
With pretrain=none the same game starts from scratch: the control.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.losses import at_least_float32, mean_squared_error
from zoo.models.base import Autoencoder
from zoo.models.parts import backbone_of
from zoo.models.vae import VAE
from zoo.nets.discriminator import discriminate_frozen


class GAN(Autoencoder):
    """Generator and discriminator, which are its parameter groups. It cannot encode images.

    Args:
        backbone: Makes the generator, as a VAE's decoder, and the discriminator; knows the image shape.
        latent_dim: Dimensions of the latent.
        discriminator_warmup: Share of the stage's images, at its beginning, during which the generator is frozen and only the discriminator
            trains. Once the generator has moved it is never frozen again, however far a resumed run's max_images is raised.
        reconstruction_weight: a at the first step, beside the generator's loss; needs a VAE to start from.
        reconstruction_decay_images: Images over which a falls to 0, in a straight line.
    """

    can_encode = False

    def __init__(
        self,
        image_size: int | None = None,
        channels: int | None = None,
        latent_dim: int = 32,
        backbone: Any = "conv",
        discriminator_warmup: float = 0.0,
        reconstruction_weight: float = 0.0,
        reconstruction_decay_images: int = 0,
        **options: Any,
    ) -> None:
        backbone = backbone_of(backbone, image_size, channels)
        super().__init__(backbone.image_shape, latent_dim, **options)
        if not 0 <= discriminator_warmup < 1:
            raise ZooError(
                f"model.discriminator_warmup={discriminator_warmup} must be a share of the stage's images, of at least 0 and below 1."
            )
        if reconstruction_weight < 0 or (reconstruction_weight and reconstruction_decay_images < 1):
            raise ZooError(
                f"model.reconstruction_weight={reconstruction_weight} must not be below 0, and needs model.reconstruction_decay_images "
                f"(now {reconstruction_decay_images}) to fall to 0 over."
            )
        self.generator = backbone.decoder(latent_dim)
        self.discriminator = backbone.discriminator(feature_layer=1)
        self.encoder = backbone.encoder(2 * latent_dim).requires_grad_(False) if reconstruction_weight else None
        self.discriminator_warmup = discriminator_warmup
        self.reconstruction_weight, self.reconstruction_decay_images = reconstruction_weight, reconstruction_decay_images
        self.train()

    def start_from(self, trained: Autoencoder | None) -> None:
        """The decoder of a VAE becomes the generator, and its encoder stays as it is for the reconstruction term."""
        if trained is None and self.reconstruction_weight:
            needs = "model.reconstruction_weight needs the encoder of a VAE, but pretrain=none"
            raise ZooError(f"{needs}; set model.reconstruction_weight=0 or give pretrain.run=RUN.")
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
            differs = "The VAE of pretrain has another encoder than model.backbone makes, which the reconstruction term needs"
            raise ZooError(f"{differs}; set model.reconstruction_weight=0.")
        self.generator.load_state_dict(trained.decoder.state_dict())
        if self.encoder is not None:
            self.encoder.load_state_dict(trained.encoder.state_dict())

    def train(self, mode: bool = True) -> "GAN":
        """As ever, but the VAE's encoder stays in eval mode: the reconstruction term is its own μ(x)."""
        super().train(mode)
        if self.encoder is not None:
            self.encoder.eval()
        return self

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"generator": [*self.generator.parameters()], "discriminator": [*self.discriminator.parameters()]}

    def frozen_groups(self) -> Iterable[str]:
        begun = next(self.generator.parameters()) in self.trainer.optimizers[0].state
        return ("generator",) if self.share_spent() < self.discriminator_warmup and not begun else ()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        real, count = batch.image, len(batch.image)
        fake = self.decode(self.normal(count, self.latent_dim))  # (B, C, H, W)
        logits = at_least_float32(discriminate_frozen(self.discriminator, real, fake)[0][-count:])
        g_loss = softplus(-logits).mean()  # -log D(G(z))
        of_real, of_fake = at_least_float32(self.discriminator(torch.cat([real, fake.detach()]))[0]).split(count)  # (B,) each
        d_loss_real, d_loss_fake = softplus(-of_real).mean(), softplus(of_fake).mean()
        losses = {"g_loss": g_loss, "d_loss_real": d_loss_real, "d_loss_fake": d_loss_fake}
        if self.encoder is None:
            return {"loss": g_loss + d_loss_real + d_loss_fake, **losses}
        with torch.no_grad():
            mean = self.encoder(real).chunk(2, dim=1)[0]  # (B, latent_dim)
        distance = mean_squared_error(real, self.decode(mean))
        weight = self.reconstruction_weight * (1 - self.linear_warmup(self.reconstruction_decay_images))
        return {"loss": g_loss + d_loss_real + d_loss_fake + weight * distance, **losses, "reconstruction": distance}

    def decode(self, latent: Tensor) -> Tensor:
        return self.generator(latent)  # (B, C, H, W)
