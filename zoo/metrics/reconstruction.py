"""How close reconstructions are to their originals. Pure functions of images in [-1, 1], one value per image."""

import torch
from torch import Tensor

from zoo.batch import to_unit_range


def squared_error(target: Tensor, output: Tensor) -> Tensor:
    """Mean squared error per value on [0, 1] images: (B, C, H, W) × 2 -> (B,)."""
    return (to_unit_range(target) - to_unit_range(output)).square().flatten(1).mean(1)


def psnr(squared_error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], from their mean squared errors (B,) -> (B,)."""
    return -10 * torch.log10(squared_error.clamp_min(1e-10))
