"""The published networks of ACAI (Berthelot et al., 1807.07543; `lib/layers.py` of its code): plain convolutions, no normalisation.

An encoder halves the image by average pooling down to `latent_width` pixels; its code is a map of latent_dim / latent_width² channels,
flat for the rest of the zoo. Outputs are linear.
"""

import math
from itertools import pairwise

from torch import nn

from zoo.errors import ZooError
from zoo.nets.described import Described

SLOPE = 0.2  # of LeakyReLU


class ACAIBackbone(Described):
    """Makes ACAI's encoders and decoders: `latent_width` times a power of two pixels, `width` channels at first, doubled at each scale."""

    def __init__(self, image_size: int, channels: int, width: int = 16, latent_width: int = 4) -> None:
        scales = int(math.log2(image_size / latent_width)) if 0 < latent_width < image_size else 0
        if scales < 1 or latent_width * 2**scales != image_size:
            raise ZooError(
                f"model.backbone.latent_width is {latent_width}, which halving {image_size} pixels does not lead to; "
                f"set it to {image_size} divided by a power of two, or data.image_size to a power of two."
            )
        self.image_shape, self.latent_width = (channels, image_size, image_size), latent_width
        self.widths = [width * 2**scale for scale in range(scales + 1)]

    def encoder(self, out_features: int) -> nn.Module:
        """An encoder (B, C, H, W) -> (B, out_features)."""
        layers: list[nn.Module] = [nn.Conv2d(self.image_shape[0], self.widths[0], 1)]
        for before, width in pairwise([self.widths[0], *self.widths[:-1]]):
            layers += [*convolution(before, width), *convolution(width, width), nn.AvgPool2d(2)]
        layers += [*convolution(*self.widths[-2:]), nn.Conv2d(self.widths[-1], self.maps(out_features), 3, padding=1)]
        return initialised(nn.Sequential(*layers, nn.Flatten()))

    def decoder(self, latent_dim: int) -> nn.Module:
        """A decoder (B, latent_dim) -> (B, C, H, W)."""
        maps, last = self.maps(latent_dim), self.widths[0]
        layers: list[nn.Module] = [nn.Unflatten(1, (maps, self.latent_width, self.latent_width))]
        for before, width in pairwise([maps, *self.widths[-2::-1]]):
            layers += [*convolution(before, width), *convolution(width, width), nn.Upsample(scale_factor=2)]
        layers += [*convolution(last, last), nn.Conv2d(last, self.image_shape[0], 3, padding=1)]
        return initialised(nn.Sequential(*layers))

    def maps(self, features: int) -> int:
        """Channels of a map of `latent_width`² pixels that holds so many features."""
        pixels = self.latent_width**2
        if features % pixels:
            raise ZooError(
                f"model.latent_dim is {features}; with model.backbone.latent_width={self.latent_width} it must be a multiple of {pixels}."
            )
        return features // pixels


def convolution(before: int, width: int) -> list[nn.Module]:
    """A 3×3 convolution and its activation."""
    return [nn.Conv2d(before, width, 3, padding=1), nn.LeakyReLU(SLOPE)]


def initialised(net: nn.Module) -> nn.Module:
    """Weights from N(0, 1 / ((1 + 0.2²) · fan_in)), biases 0."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=((1 + SLOPE**2) * fan_in) ** -0.5)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return net
