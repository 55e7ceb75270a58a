"""The published networks of UDT (Press et al., 2001.05017; `models.py` of its code): strided convolutions with InstanceNorm.

From 128 pixels on six convolutions halve the image, below that five: InstanceNorm cannot normalise a map of one pixel, so at least
2×2 are left (2×2 at 64 and at 128 pixels). A code is that map, flat. As the channels come first, the flat code [content | attribute]
that the decoder takes is exactly the published concatenation of the two maps' channels. Biases that InstanceNorm removes are left out.
"""

from itertools import pairwise

from torch import nn

from zoo.errors import ZooError
from zoo.nets.described import Described


class UDTBackbone(Described):
    """Makes UDT's encoders and decoder, `width` channels at first, for 64 or 96 pixels, or a multiple of 64 from 128 on."""

    def __init__(self, image_size: int, channels: int, width: int = 32) -> None:
        self.levels = 6 if image_size >= 128 else 5
        self.base = image_size >> self.levels  # pixels of the code's map
        if self.base < 2 or self.base << self.levels != image_size:
            raise ZooError(
                f"The networks of UDT cannot make images of {image_size} pixels: they need 64, 96, or a multiple of 64 from 128 on; "
                f"set data.image_size to the nearest of them, or choose model/backbone=conv."
            )
        self.image_shape, self.width = (channels, image_size, image_size), width

    def encoder(self, out_features: int) -> nn.Module:
        """The content encoder (B, C, H, W) -> (B, out_features): widths 32, 64, 128, 256, then those of the code."""
        maps = self.maps(out_features)
        widths = [self.width * 2**level for level in range(4)]
        return self._encoder([*widths, *[maps] * (self.levels - 4)])

    def content_encoder(self, out_features: int) -> nn.Module:
        """The same: InstanceNorm has given its codes their scale."""
        return self.encoder(out_features)

    def attribute_encoder(self, out_features: int) -> nn.Module:
        """The attribute encoder (B, C, H, W) -> (B, out_features): widths 32, 64, 128, then 128 until the code."""
        widths = [self.width * 2 ** min(level, 2) for level in range(self.levels - 1)]
        return self._encoder([*widths, self.maps(out_features)])

    def decoder(self, latent_dim: int) -> nn.Module:
        """A decoder (B, latent_dim) -> (B, C, H, W): widths …, 128, 64, 32, then the image."""
        maps = self.maps(latent_dim)
        layers: list[nn.Module] = [nn.Unflatten(1, (maps, self.base, self.base))]
        for before, width in pairwise([maps, *(self.width * 2**level for level in reversed(range(self.levels - 1)))]):
            layers += [nn.ConvTranspose2d(before, width, 4, 2, 1, bias=False), nn.InstanceNorm2d(width), nn.ReLU()]
        return nn.Sequential(*layers, nn.ConvTranspose2d(self.width, self.image_shape[0], 4, 2, 1), nn.Tanh())

    def maps(self, features: int) -> int:
        """Channels of the map that holds so many features."""
        pixels = self.base**2
        if features < pixels or features % pixels:
            below = features // pixels * pixels
            nearest = f"{below} or {below + pixels}" if below > 0 else f"{pixels}"
            raise ZooError(
                f"A code of {features} features does not fill maps of {self.base}×{self.base} pixels, which the networks of UDT leave of "
                f"{self.image_shape[1]} pixels; make it a multiple of {pixels}: {nearest}."
            )
        return features // pixels

    def _encoder(self, widths: list[int]) -> nn.Module:
        layers: list[nn.Module] = []
        for before, width in pairwise([self.image_shape[0], *widths]):
            layers += [nn.Conv2d(before, width, 4, 2, 1, bias=False), nn.InstanceNorm2d(width), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers, nn.Flatten())
