"""Grids of images: reconstructions, samples, interpolations."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from zoo.metrics.reconstruction import to_unit_range
from zoo.models.base import Autoencoder


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] -> uint8, clamped and rounded; no rescaling per image."""
    return (to_unit_range(images) * 255).round().to(torch.uint8)


def grid_of(images: Tensor, columns: int) -> Tensor:
    """(N, C, H, W) in [-1, 1] -> one picture (3, H', W') uint8, row by row; small images are enlarged by a whole factor."""
    factor = max(1, 64 // images.shape[-1])
    images = to_uint8(images.cpu()).repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return make_grid(images, nrow=columns, padding=2, pad_value=255)


def grids(model: Autoencoder, images: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """The pictures that are drawn of every model.

    Args:
        model: In eval mode.
        images: (16, C, H, W) in [-1, 1], the same each time; fewer where the data set has fewer.
        seed: Of the 64 latents, the same each time on every device.
    """
    shown = {"samples": grid_of(model.sample(64, torch.Generator().manual_seed(seed)), columns=8)}
    if model.can_encode and len(images) > 1:
        columns = min(8, len(images) // 2 * 2)
        images = images[: len(images) // columns * columns]
        pairs = torch.stack([images, model.reconstruct(images).to(images)], 1)  # (16, 2, C, H, W)
        rows = pairs.unflatten(0, (-1, columns)).transpose(1, 2)  # (2, 2, 8, C, H, W): a row of originals, then one of reconstructions
        shown["reconstructions"] = grid_of(rows.flatten(0, 2), columns)
        codes = model.encode(images)
        line = model.interpolate(codes[0::2], codes[1::2], 8).to(images)  # (8, 8, C, H, W)
        ends = torch.cat([images[0::2, None], line, images[1::2, None]], 1)  # the originals stand at both ends
        shown["interpolations"] = grid_of(ends.flatten(0, 1), columns=10)
    return shown


def save(grid: Tensor, path: Path) -> None:
    """Writes a picture (3, H, W) uint8 as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(path)
