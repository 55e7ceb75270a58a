"""How close reconstructions are to their originals. Pure functions of images in [-1, 1], one value per image."""

import torch
from torch import Tensor


def to_unit_range(images: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1] in float32, clamped: what is shown and measured."""
    return (images.float() * 0.5 + 0.5).clamp(0, 1)


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] -> uint8, clamped and rounded; no rescaling per image."""
    return (to_unit_range(images) * 255).round().to(torch.uint8)


def squared_error(target: Tensor, output: Tensor) -> Tensor:
    """Mean squared error per value on [0, 1] images: (B, C, H, W) × 2 -> (B,)."""
    return (to_unit_range(target) - to_unit_range(output)).square().flatten(1).mean(1)


def psnr(squared_error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], from their mean squared errors (B,) -> (B,)."""
    return -10 * torch.log10(squared_error.clamp_min(1e-10))
