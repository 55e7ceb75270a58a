"""Perturbations of images, a distribution over them, and how far they move codes: what an encoder can be taught, or asked, not to notice.

A perturbation takes float images (B, C, H, W) in [-1, 1] to such images of the same shape, every image on its own.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from zoo.errors import ZooError, nearest

COLOUR = 0.1  # size of the colour noise


def colour_noise(image: Tensor, uniform: Tensor) -> Tensor:
    """x · (1 + 0.1 a) + 0.1 b, clamped to [-1, 1]: (B, C, H, W); a and b = 2u - 1, u ~ U[0, 1) (B, 2C), one of each per channel."""
    scale, shift = (COLOUR * (2 * uniform - 1)).to(image.dtype)[:, :, None, None].chunk(2, 1)  # (B, C, 1, 1) each
    return (image * (1 + scale) + shift).clamp(-1, 1)


PERTURBATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of images and of the draws for colour noise
    "hflip": lambda image, _: image.flip(3),
    "vflip": lambda image, _: image.flip(2),
    "hvflip": lambda image, _: image.flip(2, 3),
    "rot90": lambda image, _: image.rot90(1, (2, 3)),
    "invert": lambda image, _: -image,
    "colour": colour_noise,
    "reverse": lambda image, _: image.flip(1),  # RGB -> BGR
    "reverse_vflip": lambda image, _: image.flip(1, 2),
}


def obstacle(name: str, image_shape: tuple[int, ...]) -> str:
    """What keeps a perturbation from images of this shape, (C, H, W); "" if nothing does."""
    channels, height, width = image_shape
    if name == "rot90" and height != width:
        return f"needs square images, not {height}×{width} pixels"
    if name.startswith("reverse") and channels == 1:
        return "reverses the order of channels, and the images have only one"
    return ""


def fitting(image_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of all perturbations that images of this shape, (C, H, W), allow."""
    return tuple(name for name in PERTURBATIONS if not obstacle(name, image_shape))


class Perturbations:
    """Draws a perturbation for every image (C, H, W), with probabilities in proportion to the weights by name; one of weight 0 is left out.

    Raises ZooError for an unknown name, a weight below 0, no weight above 0, or a perturbation that the images do not allow.
    """

    def __init__(self, weights: Mapping[str, float], image_shape: tuple[int, ...]) -> None:
        for name, weight in weights.items():
            if name not in PERTURBATIONS:
                raise ZooError(f"model.perturbations.{name} is not known; {nearest(name, list(PERTURBATIONS))}")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise ZooError(f"model.perturbations.{name}={weight} must be a number of at least 0.")
            if weight and (reason := obstacle(name, image_shape)):
                raise ZooError(f"model.perturbations.{name}={weight} is not possible: it {reason}; set it to 0.")
        self.names = [name for name, weight in weights.items() if weight]
        if not self.names:
            raise ZooError("model.perturbations has no weight above 0; set one, for example model.perturbations.hflip=1.")
        total = sum(weights.values())
        shares = [weights[name] / total for name in self.names]
        self.edges = [sum(shares[:number]) for number in range(len(shares))]  # where each one's part of [0, 1) begins
        self.draws = 1 + 2 * image_shape[0]  # uniforms for each image: which perturbation, and its colour noise

    def __call__(self, image: Tensor, uniform: Tensor) -> Tensor:
        """Perturbs every image by the one its draws choose: (B, C, H, W), U[0, 1) (B, draws) -> (B, C, H, W)."""
        chosen, noise = uniform[:, 0, None, None, None], uniform[:, 1:]
        changed = image
        for edge, name in zip(self.edges, self.names, strict=True):  # the last part that has begun; no branch depends on the data
            changed = torch.where(chosen >= edge, PERTURBATIONS[name](image, noise), changed)
        return changed


def relative_distance(codes: Tensor, changed: Tensor, others: Tensor) -> Tensor:
    """mean ‖z - z'‖ / mean ‖z - z̃‖, scalar: 0 = the change is not noticed, 1 = it moves codes as far as another image would.

    Codes of images, of the same after the change, and of others: (N, latent_dim) × 3, of any scale. NaN if all codes are the same.
    """
    moved, apart = ((codes - other).norm(dim=1).mean() for other in (changed, others))
    return moved / torch.where(apart > 0, apart, torch.nan)
