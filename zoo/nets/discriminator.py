"""Discriminators: of images, giving also the features of one layer (VAE-GAN, 1512.09300), and of codes (UDT, 2001.05017).

A net that only judges is called as a constant: gradients pass through it to its input, and none, or only a share, reaches its parameters.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.errors import ZooError


class Discriminator(nn.Module):
    """Convolutions, then a head: images (B, C, H, W) -> logits (B,) and features (B, F).

    The features are what convolution number `feature_layer` gives, before its normalisation and activation, flat.

    Args:
        convolutions, after: In their order, and what follows each: norm and activation, not in place (it would change the features).
        head: From what follows the last one to (B, 1).
        feature_layer: Number of a convolution, from 1, or from -1 backwards. Raises ZooError if there is none of that number.
    """

    def __init__(self, convolutions: Sequence[nn.Conv2d], after: Sequence[nn.Module], head: nn.Module, feature_layer: int) -> None:
        super().__init__()
        if type(feature_layer) is not int or not 1 <= abs(feature_layer) <= len(convolutions):
            raise ZooError(
                f"model.feature_layer is {feature_layer}, but the discriminator has {len(convolutions)} convolutions; "
                f"choose a whole number from 1 to {len(convolutions)}, or from -1 backwards."
            )
        self.blocks = nn.ModuleList(nn.Sequential(*pair) for pair in zip(convolutions, after, strict=True))
        self.head, self.feature_layer = head, feature_layer % (len(convolutions) + 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        hidden = features = image
        for number, block in enumerate(self.blocks, 1):
            convolution, after = block.children()
            hidden = convolution(hidden)
            if number == self.feature_layer:
                features = hidden.flatten(1)  # (B, F)
            hidden = after(hidden)
        return self.head(hidden).squeeze(1), features


def code_discriminator(in_features: int) -> nn.Module:
    """UDT's discriminator of content codes: (B, in_features) -> logits (B,)."""
    return nn.Sequential(nn.Linear(in_features, 512), nn.LeakyReLU(0.2), nn.Linear(512, 1), nn.Flatten(0))


def discriminate_frozen(discriminator: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and features of `fake` (B', C, H, W) from the discriminator as a constant: (B',), (B', F).

    With BatchNorm `real` (B, C, H, W) goes before it in the same batch, as in the discriminator's training: (B + B',) and (B + B', F).
    """
    if any(isinstance(layer, _BatchNorm) for layer in discriminator.modules()):
        fake = torch.cat([real, fake])
    return call_with_detached_params(discriminator, fake)


def call_with_detached_params(net: nn.Module, *inputs: Any, share: float = 0.0, observe: bool = False) -> Any:
    """`net(*inputs)` with parameters that receive only `share` of their gradient; the inputs receive all of theirs.

    Its buffers are cloned, as a net that only judges must not touch BatchNorm's statistics; with `observe` these count the inputs.
    """
    tensors = {name: parameter.detach() for name, parameter in net.named_parameters()}
    if share:  # the same values
        tensors = {name: constant + share * (net.get_parameter(name) - constant) for name, constant in tensors.items()}
    if not observe:
        tensors |= {name: buffer.clone() for name, buffer in net.named_buffers()}
    return functional_call(net, tensors, inputs)
