"""The published networks of VAE-GAN for 64 pixels (Larsen et al., 1512.09300; `architectures.py` of its code): 5×5 convolutions, BatchNorm.

As in the code, layers before BatchNorm have no bias, and weights start at U(±1/√(3·fan_in)). BatchNorm's scales start at 1.
With BatchNorm an image's result depends on its neighbours: as published, real and fake images must be one batch of the discriminator's.
"""

from itertools import pairwise

from torch import nn

from zoo.errors import ZooError
from zoo.nets.described import Described
from zoo.nets.discriminator import Discriminator

SIZE = 64  # pixels


class VAEGANBackbone(Described):
    """Makes VAE-GAN's encoder, decoder and discriminator for images of 64×64 pixels and 1 or 3 channels. Raises ZooError for others."""

    def __init__(self, image_size: int = SIZE, channels: int = 3) -> None:
        if image_size != SIZE:
            raise ZooError(
                f"The networks of VAE-GAN are for images of {SIZE} pixels, not {image_size}; "
                f"set data.image_size={SIZE}, or choose model/backbone=conv."
            )
        self.image_shape = (channels, image_size, image_size)

    def encoder(self, out_features: int) -> nn.Module:
        """An encoder (B, C, 64, 64) -> (B, out_features); the last layer is linear."""
        layers: list[nn.Module] = []
        for before, width in pairwise((self.image_shape[0], 64, 128, 256)):
            layers += [nn.Conv2d(before, width, 5, 2, 2, bias=False), *normalised(width)]
        layers += [nn.Flatten(), *dense(256 * 8 * 8, 1024), nn.Linear(1024, out_features)]
        return initialised(nn.Sequential(*layers))

    def decoder(self, latent_dim: int) -> nn.Module:
        """A decoder (B, latent_dim) -> (B, C, 64, 64)."""
        layers: list[nn.Module] = [*dense(latent_dim, 256 * 8 * 8), nn.Unflatten(1, (256, 8, 8))]
        for before, width in pairwise((256, 256, 128, 32)):
            layers += [nn.ConvTranspose2d(before, width, 5, 2, 2, output_padding=1, bias=False), *normalised(width)]
        return initialised(nn.Sequential(*layers, nn.Conv2d(32, self.image_shape[0], 5, padding=2), nn.Tanh()))

    def discriminator(self, feature_layer: int) -> nn.Module:
        """A discriminator (B, C, 64, 64) -> logits (B,) and features (B, F) of convolution 1 to 4 (published: 4, F = 256·8·8)."""
        convolutions, after = [nn.Conv2d(self.image_shape[0], 32, 5, padding=2)], [nn.Sequential(nn.ReLU())]
        for before, width in pairwise((32, 128, 256, 256)):
            convolutions.append(nn.Conv2d(before, width, 5, 2, 2, bias=False))
            after.append(nn.Sequential(*normalised(width)))
        head = nn.Sequential(nn.Flatten(), *dense(256 * 8 * 8, 512), nn.Linear(512, 1))
        return initialised(Discriminator(convolutions, after, head, feature_layer))


def normalised(width: int) -> list[nn.Module]:
    """What follows a convolution."""
    return [nn.BatchNorm2d(width, eps=1e-6), nn.ReLU()]


def dense(before: int, width: int) -> list[nn.Module]:
    """A hidden fully connected layer."""
    return [nn.Linear(before, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]


def initialised(net: nn.Module) -> nn.Module:
    """Weights from U(±1/√(3·fan_in)), biases 0 (`AutoFiller` of the authors' library); fan_in as torch counts it."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            bound = (3 * layer.weight[0].numel()) ** -0.5
            nn.init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net
