"""The shared convolutional backbone: strided encoder, transposed decoder, GroupNorm or no normalisation.

One backbone serves every comparison model, at 28/32, 64, 128 and 256 pixels and 1 or 3 channels. It halves the image
until 4 to 7 pixels are left, doubling the width at each level up to `max_width`. No BatchNorm: an image's result must not
depend on its neighbours in the batch, or 2 ranks would not equal 1.
"""

import math
from itertools import pairwise

from torch import nn

from zoo.errors import ZooError
from zoo.nets.described import Described
from zoo.nets.discriminator import Discriminator


def halvings(image_size: int) -> int:
    """Number of times `image_size` can be halved down to 4 to 7 pixels. Raises ZooError if that is not possible."""
    levels, size = 0, image_size
    while size > 7 and size % 2 == 0:
        levels, size = levels + 1, size // 2
    if not 4 <= size <= 7 or levels == 0:
        raise ZooError(
            f"The convolutional backbone cannot make images of {image_size} pixels: it needs 4, 5, 6 or 7 times a power of two "
            f"(28, 32, 40, 48, 64, 96, 128, 160, 192, 256, …); set data.image_size to the nearest of them."
        )
    return levels


def norm(kind: str, width: int) -> nn.Module:
    """The normalisation layer `kind` ("group" or "none") for `width` channels."""
    if kind == "group":
        return nn.GroupNorm(math.gcd(max(1, width // 16), width), width)  # groups of 16 channels, or of some more that divide the width
    if kind == "none":
        return nn.Identity()
    raise ZooError(f"model.backbone.norm is '{kind}'; it must be 'group' or 'none'.")


class ConvBackbone(Described):
    """Makes matching encoders, decoders and image discriminators for one image shape.

    Args:
        image_size, channels: Height and width in pixels, see `halvings`; 1 or 3 channels.
        width: Channels after the first convolution; doubled at each level.
        max_width: Upper limit of the doubling.
        norm: "none", or "group" for GroupNorm (at 40,000 faces its error is a third larger and its colours are pale).
        output: "tanh" (exactly [-1, 1]) or "linear". "sigmoid" is refused: images live in [-1, 1].
    """

    def __init__(
        self, image_size: int, channels: int, width: int = 32, max_width: int = 256, norm: str = "none", output: str = "tanh"
    ) -> None:
        output_layer(output)  # refuses a sigmoid
        if width < 16 or width % 16:
            raise ZooError(f"model.backbone.width is {width}; it must be a multiple of 16.")
        if max_width < 1:
            raise ZooError(f"model.backbone.max_width is {max_width}; it must be at least 1.")
        self.levels = halvings(image_size)
        self.widths = [min(width * 2**level, max_width) for level in range(self.levels)]
        self.base = image_size // 2**self.levels
        self.image_shape, self.norm, self.output = (channels, image_size, image_size), norm, output

    def encoder(self, out_features: int, share: float = 1.0) -> nn.Module:
        """An encoder (B, C, H, W) -> (B, out_features), with this share of the backbone's width."""
        layers: list[nn.Module] = []
        widths = [self.image_shape[0], *(int(share * width) for width in self.widths)]
        for level, (before, width) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(before, width, 4, 2, 1), norm(self.norm if level else "none", width), nn.SiLU()]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * self.base**2, out_features))

    def content_encoder(self, out_features: int) -> nn.Module:
        """An encoder whose codes have mean 0 and variance 1 over their features: a discriminator of codes cannot follow a free scale."""
        return nn.Sequential(self.encoder(out_features), nn.LayerNorm(out_features, elementwise_affine=False))

    def attribute_encoder(self, out_features: int) -> nn.Module:
        """An encoder of half the width, for what little an attribute needs."""
        return self.encoder(out_features, share=0.5)

    def discriminator(self, feature_layer: int) -> Discriminator:
        """A discriminator (B, C, H, W) -> logits (B,) and features (B, F) of its convolution number `feature_layer`, from 1.

        GroupNorm after all but the first convolution, whatever the autoencoder has: without a normalisation the features of VAE-GAN
        would have no scale. It is per image: a result does not depend on its neighbours in the batch.
        """
        convolutions = [nn.Conv2d(*channels, 4, 2, 1) for channels in pairwise([self.image_shape[0], *self.widths])]
        after = [nn.Sequential(norm("group" if level else "none", width), nn.LeakyReLU(0.2)) for level, width in enumerate(self.widths)]
        head = nn.Sequential(nn.Flatten(), nn.Linear(self.widths[-1] * self.base**2, 1))
        return Discriminator(convolutions, after, head, feature_layer)

    def decoder(self, latent_dim: int) -> nn.Module:
        """A decoder (B, latent_dim) -> (B, C, H, W)."""
        first, last = self.widths[-1], self.widths[0]
        layers: list[nn.Module] = [nn.Linear(latent_dim, first * self.base**2), nn.Unflatten(1, (first, self.base, self.base))]
        layers += [norm(self.norm, first), nn.SiLU()]
        for before, width in pairwise(self.widths[::-1]):
            layers += [nn.ConvTranspose2d(before, width, 4, 2, 1), norm(self.norm, width), nn.SiLU()]
        return nn.Sequential(*layers, nn.ConvTranspose2d(last, self.image_shape[0], 4, 2, 1), output_layer(self.output))


def output_layer(kind: str) -> nn.Module:
    """The last layer of a decoder: "tanh", exactly [-1, 1], or "linear"."""
    if kind not in ("tanh", "linear"):
        raise ZooError(f"model.backbone.output is '{kind}'; images live in [-1, 1], so it must be 'tanh' or 'linear'.")
    return nn.Tanh() if kind == "tanh" else nn.Identity()
