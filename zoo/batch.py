"""What a loader yields and a model's losses receive, and how its images turn from uint8 into float and back."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError


class Batch(NamedTuple):
    """One batch. `image` is uint8 as the loader yields it and float in [-1, 1] in a model's hands."""

    image: Tensor  # (B, C, H, W)
    attributes: Tensor  # (B, A) in {0, 1}, or one-hot classes
    index: Tensor  # type: ignore[assignment]  # (B,) int64, position in the store; hides tuple.index

    def to(self, device: torch.device) -> "Batch":
        """On another device."""
        return Batch(*(part.to(device) for part in self))


def as_batch(given: Any) -> Batch:
    """What anybody's loader yields, as a float batch: a `Batch`, images (B, C, H, W), (images, labels, …) or {"image": …, "attributes": …}.

    Images are uint8 or float in [-1, 1]. Labels (B, A) in {0, 1} become attributes, others are left out. Raises ZooError.
    """
    if isinstance(given, Batch):
        return given if given.image.is_floating_point() else to_float(given)
    image, labels = parts_of(given)
    if not isinstance(image, Tensor) or image.ndim != 4 or not (image.is_floating_point() or image.dtype == torch.uint8):
        what = f"{image.dtype!s} {tuple(image.shape)}" if isinstance(image, Tensor) else f"a {type(given).__name__}"
        raise ZooError(
            f"A batch is {what}; models take images (B, C, H, W), uint8 or float in [-1, 1]: alone, first of a tuple, or a dict's 'image'."
        )
    attributes = labels if isinstance(labels, Tensor) and labels.ndim == 2 else image.new_zeros(len(image), 0, dtype=torch.uint8)
    batch = Batch(image, attributes, torch.arange(len(image), device=image.device))
    return batch if image.is_floating_point() else to_float(batch)


def parts_of(given: Any) -> tuple[Any, Any]:
    """The images and the labels of what anybody's loader yields, as they are; None for what is not there."""
    if isinstance(given, Mapping):
        return given.get("image"), given.get("attributes")
    parts = given if isinstance(given, tuple | list) else (given,)
    return parts[0] if parts else None, parts[1] if len(parts) > 1 else None


def check_range(image: Tensor) -> None:
    """Raises ZooError for float images that are not in [-1, 1], or look as if they were in [0, 1]."""
    low, high = image.min().item(), image.max().item()
    if not -1.001 <= low <= high <= 1.001:  # also if one is not a number
        raise ZooError(f"The images of the first batch lie in [{low:g}, {high:g}]; give uint8, or float in [-1, 1].")
    if low >= 0 and high > low:
        raise ZooError(
            f"The images of the first batch lie in [{low:g}, {high:g}], but models take [-1, 1]; multiply by 2 and subtract 1 "
            "(torchvision: Normalize(0.5, 0.5) after ToTensor), or give uint8."
        )


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
