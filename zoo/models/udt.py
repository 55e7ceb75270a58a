"""UDT: content transfer between two domains (Press, Galanti, Benaim & Wolf, ICLR 2019, 2001.05017).

The *rich* domain has an attribute (its label is 1), the *poor* one lacks it (label 0): faces with and without glasses. The paper calls
poor A and rich B, its code the other way round; no letters here.

    x̂ = g(c, a)   c = f₁(x) content      a = f₂(x) attribute of a rich image, 0 of a poor one
    autoencoder   Σ_domains mean (x - x̂)² + w · Σ_domains BCE(d(c), poor)
    discriminator Σ_domains BCE(d(c), domain)

Both domains are pushed to the poor label, as in the authors' code: the non-saturating form of making content domain-blind. The two
parameter groups are updated at once, there one after the other.

Nothing but its size keeps the rest of the image out of the attribute code, and what else it tells goes with it to other images. With
β > 0, which is ours, it pays for all that it tells, and so leaves to the content what the content can tell:

    a = f₂(x) + ε, ε ~ N(0, I)   autoencoder … + β · Σ_rich mean ½‖f₂(x)‖², the nats KL(N(f₂(x), I) ‖ N(0, I))
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.losses import at_least_float32
from zoo.models.base import Autoencoder
from zoo.models.parts import backbone_of
from zoo.nets.discriminator import call_with_detached_params, code_discriminator
from zoo.priors import Mixture


class UDT(Autoencoder):
    """Autoencoder with a content code that does not tell the domain, and an attribute code. Groups: "autoencoder", "discriminator".

    Args:
        backbone: Makes the two encoders and the decoder; knows the image shape.
        latent_dim: Dimensions of content and attribute together.
        attribute_dim: Dimensions of the attribute code: few, or it holds more than the attribute ("sep").
        domain: Name of the attribute (classes may be digits); training batches hold as many images without as with it (data.domain).
        adv_weight: w, weight of the adversarial term beside a mean squared error per value (published: 0.001).
        kl_weight: β, weight of the attribute code's nats per image beside the same; 0: as published, a code without noise or cost.
    """

    reads_attributes = True
    batch_multiple = 2
    column: Tensor

    def __init__(
        self,
        image_size: int | None = None,
        channels: int | None = None,
        latent_dim: int = 32,
        backbone: Any = "conv",
        attribute_dim: int = 4,
        domain: str | int = "Eyeglasses",
        adv_weight: float = 0.001,
        kl_weight: float = 0.0,
        **options: Any,
    ) -> None:
        if not 0 < attribute_dim < latent_dim:
            raise ZooError(f"model.attribute_dim is {attribute_dim}; it must leave some of model.latent_dim={latent_dim} to the content.")
        for name, weight in (("adv_weight", adv_weight), ("kl_weight", kl_weight)):
            if weight < 0:
                raise ZooError(f"model.{name}={weight} must not be below 0.")
        options.setdefault("prior", Mixture(latent_dim))
        backbone = backbone_of(backbone, image_size, channels)
        super().__init__(backbone.image_shape, latent_dim, **options)
        self.content_dim, self.attribute_dim = latent_dim - attribute_dim, attribute_dim
        self.content = backbone.content_encoder(self.content_dim)
        self.attribute = backbone.attribute_encoder(attribute_dim)
        self.decoder = backbone.decoder(latent_dim)
        self.discriminator = code_discriminator(self.content_dim)
        self.domain, self.adv_weight, self.kl_weight = str(domain), adv_weight, kl_weight
        self.named = False  # whether the data have said which column that is
        self.register_buffer("column", torch.zeros((), dtype=torch.int64))  # of the domain in a batch's attributes

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        nets = (self.content, self.attribute, self.decoder)
        return {"autoencoder": [p for net in nets for p in net.parameters()], "discriminator": [*self.discriminator.parameters()]}

    def set_attribute_names(self, names: tuple[str, ...]) -> None:
        self.named = True
        if self.domain not in names:
            raise ZooError(f"model.domain={self.domain} is not an attribute of the data; they have: {', '.join(names) or 'none'}.")
        self.column.fill_(names.index(self.domain))

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if not self.named:
            if not self.domain.isdigit():
                raise ZooError(
                    f"UDT needs two domains: images without and with {self.domain}. Give domain=COLUMN, its number among the attributes "
                    "(B, A) in {0, 1} that your loader yields after the images, or use zoo.data's DataModule."
                )
            self.column.fill_(int(self.domain))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        rich = self.rich(batch.attributes)  # (B,)
        content = self.content(batch.image)  # (B, content_dim)
        attribute = self.attribute(batch.image)  # (B, attribute_dim)
        rate = 0.5 * at_least_float32(attribute).square().sum(1) * rich  # (B,)
        if self.kl_weight:
            attribute = attribute + self.normal(*attribute.shape)
        output = self.decode(torch.cat([content, attribute * rich[:, None]], 1))

        squared = (at_least_float32(batch.image) - at_least_float32(output)).square().flatten(1).mean(1)  # (B,)
        poor = torch.zeros_like(rich)
        confusion = binary_cross_entropy_with_logits(
            at_least_float32(call_with_detached_params(self.discriminator, content)), poor, reduction="none"
        )
        d_loss = binary_cross_entropy_with_logits(at_least_float32(self.discriminator(content.detach())), rich, reduction="none")
        reconstruction, confusion, d_loss, rate = (over_domains(term, rich) for term in (squared, confusion, d_loss, rate))
        return {
            "loss": reconstruction + self.adv_weight * confusion + self.kl_weight * rate + d_loss,
            "reconstruction": reconstruction,
            "confusion": confusion,
            "rate": rate,
            "d_loss": d_loss,
        }

    def rich(self, attributes: Tensor) -> Tensor:
        """The domain of each image, 1 rich and 0 poor: (B, A) -> (B,) float."""
        if not attributes.shape[1]:
            raise ZooError("UDT needs two domains, but the batches hold images alone; let the loader yield (images, attributes).")
        return attributes.index_select(1, self.column[None])[:, 0].to(self.dtype)

    def encode(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        """[content | attribute]: (B, C, H, W) -> (B, latent_dim). The attribute half is 0 where `attributes` (B, A) say poor."""
        attribute = self.attribute(image)
        if attributes is not None:
            attribute = attribute * self.rich(attributes)[:, None]
        return torch.cat([self.content(image), attribute], 1)

    def add(self, poor: Tensor, guide: Tensor) -> Tensor:
        """g(f₁(poor), f₂(guide)), poor images with the attribute of rich ones: (B, C, H, W) × 2 -> (B, C, H, W)."""
        return self.decode(torch.cat([self.content(poor), self.attribute(guide)], 1))

    def remove(self, rich: Tensor) -> Tensor:
        """g(f₁(rich), 0), rich images without their attribute: (B, C, H, W) -> (B, C, H, W)."""
        content = self.content(rich)
        return self.decode(torch.cat([content, content.new_zeros(len(rich), self.attribute_dim)], 1))

    def swap(self, rich: Tensor, guide: Tensor) -> Tensor:
        """g(f₁(rich), f₂(guide)), rich images with the attribute of others; swap(x, x) reconstructs x: (B, C, H, W) × 2 -> (B, C, H, W)."""
        return self.add(rich, guide)


def over_domains(term: Tensor, rich: Tensor) -> Tensor:
    """Σ over the two domains of the mean over its images: (B,), (B,) in {0, 1} -> scalar. A domain without images counts 0."""
    poor = 1 - rich
    return (term * rich).sum() / rich.sum().clamp(min=1) + (term * poor).sum() / poor.sum().clamp(min=1)
