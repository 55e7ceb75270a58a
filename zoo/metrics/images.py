"""Of images in [-1, 1], one value for each: how close they are to others, and how much fine detail they hold."""

import torch
from torch import Tensor

from zoo.batch import to_unit_range


def squared_error(target: Tensor, output: Tensor) -> Tensor:
    """Mean squared error per value on [0, 1] images: (B, C, H, W) × 2 -> (B,)."""
    return (to_unit_range(target) - to_unit_range(output)).square().flatten(1).mean(1)


def psnr(squared_error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], from their mean squared errors (B,) -> (B,)."""
    return -10 * torch.log10(squared_error.clamp_min(1e-10))


def laplacian_energy(images: Tensor) -> Tensor:
    """Mean over all values of the squared discrete Laplacian, on [0, 1] images: (B, C, H, W) -> (B,).

    That is the sum of a pixel's 4 neighbours minus 4 times the pixel, where there are 4 (H, W ≥ 3). Blur lowers it, noise raises it.
    """
    images = to_unit_range(images)
    neighbours = images[..., :-2, 1:-1] + images[..., 2:, 1:-1] + images[..., 1:-1, :-2] + images[..., 1:-1, 2:]
    return (neighbours - 4 * images[..., 1:-1, 1:-1]).square().flatten(1).mean(1)
