"""How much fine detail images hold. A pure function of images in [-1, 1], one value per image."""

from torch import Tensor

from zoo.batch import to_unit_range


def laplacian_energy(images: Tensor) -> Tensor:
    """Mean over all values of the squared discrete Laplacian, on [0, 1] images: (B, C, H, W) -> (B,).

    That is the sum of a pixel's 4 neighbours minus 4 times the pixel, where there are 4 (H, W ≥ 3). Blur lowers it, noise raises it.
    """
    images = to_unit_range(images)
    neighbours = images[..., :-2, 1:-1] + images[..., 2:, 1:-1] + images[..., 1:-1, :-2] + images[..., 1:-1, 2:]
    return (neighbours - 4 * images[..., 1:-1, 1:-1]).square().flatten(1).mean(1)
