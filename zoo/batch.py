"""What a loader yields and a model's losses receive, and how its images turn from uint8 into float and back."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """One batch. `image` is uint8 as the loader yields it and float in [-1, 1] in a model's hands."""

    image: Tensor  # (B, C, H, W)
    attributes: Tensor  # (B, A) in {0, 1}, or one-hot classes
    index: Tensor  # type: ignore[assignment]  # (B,) int64, position in the store; hides tuple.index


def to_unit_range(images: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1] in float32, clamped: what is shown and measured."""
    return (images.float() * 0.5 + 0.5).clamp(0, 1)


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] -> uint8, clamped and rounded; no rescaling per image."""
    return (to_unit_range(images) * 255).round().to(torch.uint8)


BLOCK_BYTES = 3 * 2**19  # of uint8 converted at once: 128 images of 3×64×64; smaller blocks measured slower
SCALE = float(np.nextafter(np.float32(1 / 127.5), np.float32(0)))  # rounded down: white must not exceed 1


def to_float(batch: Batch, flips: Tensor | None = None, out: Tensor | None = None) -> Batch:
    """The batch with its image as float32, v / 127.5 − 1 to within 1.2e-7 and never outside [-1, 1], the chosen images mirrored.

    `flips` is (len(store),) bool, as `BatchLoader.flips`; None mirrors nothing. `out` (at least B, C, H, W) float32 is written
    to and returned as a view, which on the CPU saves most of the time; there the uint8 images are mirrored in place.
    """
    image = batch.image
    chosen = None if flips is None else flips.index_select(0, batch.index)
    result = torch.empty(image.shape, dtype=torch.float32, device=image.device) if out is None else out[: len(image)]
    minus_one = torch.tensor(-1.0, device=image.device)
    if image.device.type != "cpu":
        if chosen is not None:
            image = torch.where(chosen.view(-1, 1, 1, 1), image.flip(-1), image)
        torch.add(minus_one, result.copy_(image), alpha=SCALE, out=result)
        return batch._replace(image=result)
    rows = max(1, BLOCK_BYTES // image.shape[1:].numel())
    pixels, mirror = image.numpy(), None if chosen is None else chosen.numpy()
    for start in range(0, len(image), rows):
        block, target = pixels[start : start + rows], result[start : start + rows]
        if mirror is not None:  # on bytes, with numpy's row copies: torch's index_copy_ and where are ten times slower here
            here = mirror[start : start + rows].nonzero()[0]
            block[here] = torch.from_numpy(block[here]).flip(-1).numpy()
        torch.add(minus_one, target.copy_(torch.from_numpy(block)), alpha=SCALE, out=target)
    return batch._replace(image=result)
