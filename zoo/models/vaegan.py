"""VAE-GAN: a VAE whose likelihood lives in the features of a GAN's discriminator (Larsen et al., ICML 2016, 1512.09300).

    x̃ = Dec(z), z ~ q(z|x)      x_p = Dec(z_p), z_p ~ N(0, I)      V = -[log D(x) + log(1 - D(x̃)) + log(1 - D(x_p))], each a mean
    encoder        KL(q(z|x) ‖ N(0, I)) + R(x, x̃)
    decoder        γ · R(x, x̃) - log D(x̃) - log D(x_p)       non-saturating (default), or γ · R(x, x̃) - V, minimax, as in the paper
    discriminator  V

R = ½ ‖D_l(x) - D_l(x̃)‖² is a negative log-likelihood up to a constant, nats per image: summed over the features of layer l, mean over
the batch. γ weighs such a sum against means of log-probabilities, hence is small. The printed algorithm gives the signs of V the other
way round. The paper's code takes prior samples alone for fakes (fakes=prior) and freezes parameter groups
outside of an equilibrium (margin=0.35).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.losses import at_least_float32, kl_to_standard_normal
from zoo.models.base import Autoencoder
from zoo.models.parts import backbone_of
from zoo.models.vae import moments, reparameterised
from zoo.nets.discriminator import call_with_detached_params, discriminate_frozen

CHOICES = {
    "objective": ("non_saturating", "minimax"),
    "reconstruction": ("features", "pixels", "both"),
    "fakes": ("both", "prior"),
}


class VAEGAN(Autoencoder):
    """VAE with a discriminator; the parameter groups are "encoder", "decoder" and "discriminator".

    Args:
        backbone: Makes the nets, and knows the image shape.
        gamma: γ, weight of the reconstruction in the decoder's objective.
        feature_layer: l, number of a convolution of the discriminator, from 1, or from -1 backwards; its output is compared.
        objective: Of the decoder in the game: "non_saturating" or "minimax".
        reconstruction: R in "features", "pixels" or "both", their sum.
        pixel_scale: Standard deviation of pixels on [-1, 1] images, where R counts them: R = ‖x - x̃‖² / 2·pixel_scale².
        fakes: "both" x̃ and x_p (the paper), or "prior", x_p alone (its code).
        margin: Half-width of the equilibrium: the discriminator is frozen in a step where its loss of real or of fake images is below
            0.68 - margin, the decoder where one is above 0.68 + margin, neither where both would be. None: neither, ever.
    """

    equilibrium = 0.68

    def __init__(
        self,
        image_size: int | None = None,
        channels: int | None = None,
        latent_dim: int = 32,
        backbone: Any = "conv",
        gamma: float = 0.01,
        feature_layer: int = -1,
        objective: str = "non_saturating",
        reconstruction: str = "features",
        pixel_scale: float = 0.2,
        fakes: str = "both",
        margin: float | None = None,
        **options: Any,
    ) -> None:
        backbone = backbone_of(backbone, image_size, channels)
        super().__init__(backbone.image_shape, latent_dim, **options)
        for name, value in (("objective", objective), ("reconstruction", reconstruction), ("fakes", fakes)):
            if value not in CHOICES[name]:
                raise ZooError(f"model.{name}={value} is not known; use {' or '.join(CHOICES[name])}.")
        if gamma < 0 or pixel_scale <= 0 or (margin is not None and margin <= 0):
            raise ZooError(f"model.gamma={gamma} must not be below 0, model.pixel_scale={pixel_scale} and model.margin={margin} above it.")
        self.encoder = backbone.encoder(2 * latent_dim)
        self.decoder = backbone.decoder(latent_dim)
        self.discriminator = backbone.discriminator(feature_layer)
        self.gamma, self.objective, self.reconstruction, self.pixel_scale = gamma, objective, reconstruction, pixel_scale
        self.fakes, self.margin = fakes, margin
        self.d_losses = torch.zeros(2)  # of real and fake images in this step

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return {name: [*getattr(self, name).parameters()] for name in ("encoder", "decoder", "discriminator")}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        real, count = batch.image, len(batch.image)
        mean, log_variance = self.posterior(real)
        noise, sampled = self.normal(count, 2, self.latent_dim).unbind(1)
        latent = reparameterised(mean, log_variance, noise)  # (B, latent_dim)
        # The same values as x̃ below, but their gradient reaches the encoder in full, the decoder by γ. Only one of them counts in the
        # decoder's statistics, if it has BatchNorm.
        reconstructed = call_with_detached_params(self.decoder, latent, share=self.gamma, observe=self.fakes == "prior")  # (B, C, H, W)
        latents = [latent.detach(), sampled] if self.fakes == "both" else [sampled]
        fake = torch.cat([self.decode(part) for part in latents])  # x̃ apart from x_p: with BatchNorm it stays what it is
        kinds = len(fake) // count  # V is a sum over kinds of fakes

        logits, features = self.discriminator(torch.cat([real, fake.detach()]))
        of_real, of_fake = at_least_float32(logits).split([count, len(fake)])
        d_loss_real, d_loss_fake = softplus(-of_real).mean(), softplus(of_fake).mean()

        compared = discriminate_frozen(self.discriminator, real, reconstructed)[1]  # with BatchNorm both from this batch
        target = (compared if len(compared) > count else features)[:count].detach()  # (B, F)
        rate = kl_to_standard_normal(mean, log_variance)
        distortion = self.distance(real, reconstructed, target, compared[-count:])

        logits = at_least_float32(discriminate_frozen(self.discriminator, real, fake)[0])
        to_real, to_fake = logits[: -len(fake)], logits[-len(fake) :]  # of real ones only with BatchNorm, through which they are felt
        if self.objective == "non_saturating":
            g_loss = kinds * softplus(-to_fake).mean()
        else:
            g_loss = -softplus(-to_real).sum() / count - kinds * softplus(to_fake).mean()
        return {
            "loss": rate + distortion + g_loss + d_loss_real + kinds * d_loss_fake,
            "rate": rate,
            "distortion": distortion,
            "g_loss": g_loss,
            "d_loss_real": d_loss_real,
            "d_loss_fake": d_loss_fake,
        }

    def distance(self, real: Tensor, output: Tensor, target: Tensor, features: Tensor) -> Tensor:
        """R, nats per image, mean over the batch: images (B, C, H, W) × 2 and their features (B, F) × 2 -> scalar."""
        distance = torch.zeros((), device=real.device)
        if self.reconstruction != "pixels":
            distance = distance + 0.5 * (at_least_float32(target) - at_least_float32(features)).square().sum(1).mean()
        if self.reconstruction != "features":
            squared = (at_least_float32(real) - at_least_float32(output)).square().flatten(1).sum(1).mean()
            distance = distance + squared / (2 * self.pixel_scale**2)
        return distance

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        losses = super().training_step(batch, batch_idx)
        if self.margin is not None:
            pieces = self.trainer.accumulate_grad_batches
            d_losses = torch.stack([losses["d_loss_real"], losses["d_loss_fake"]]).detach() / pieces
            self.d_losses = d_losses if batch_idx % pieces == 0 else self.d_losses + d_losses
        return losses

    def frozen_groups(self) -> Iterable[str]:
        if self.margin is None:
            return ()
        d_losses = self.trainer.strategy.reduce(self.d_losses, reduce_op="mean").tolist()  # the same on all ranks
        frozen_groups = {
            "discriminator": min(d_losses) < self.equilibrium - self.margin,
            "decoder": max(d_losses) > self.equilibrium + self.margin,
        }
        return () if all(frozen_groups.values()) else [name for name, frozen in frozen_groups.items() if frozen]

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ² of q(z|x), in float32 at least: (B, C, H, W) -> (B, latent_dim) × 2."""
        return moments(self.encoder(image))

    def encode(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        return self.posterior(image)[0]  # (B, latent_dim)

    def latents_for_prior(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        mean, log_variance = self.posterior(image)
        return reparameterised(mean, log_variance, self.normal(*mean.shape))
