"""Of images in [-1, 1], one value for each: how close they are to others, and how much fine detail they hold."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from zoo.batch import to_unit_range

LPIPS_SMALLEST = 32  # pixels that AlexNet needs
LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"  # torchvision's file; the linear heads come with torchmetrics


def squared_error(target: Tensor, output: Tensor) -> Tensor:
    """Mean squared error per value on [0, 1] images: (B, C, H, W) × 2 -> (B,)."""
    return (to_unit_range(target) - to_unit_range(output)).square().flatten(1).mean(1)


def psnr(squared_error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], from their mean squared errors (B,) -> (B,)."""
    return -10 * torch.log10(squared_error.clamp_min(1e-10))


def ssim(target: Tensor, output: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004; Gaussian window σ = 1.5, K = 0.01, 0.03) on [0, 1] images: (B, C, H, W) × 2 -> (B,)."""
    found = structural_similarity_index_measure(to_unit_range(output), to_unit_range(target), data_range=1.0, reduction="none")
    assert isinstance(found, Tensor)
    return found.view(-1)


def laplacian_energy(images: Tensor) -> Tensor:
    """Mean over all values of the squared discrete Laplacian, on [0, 1] images: (B, C, H, W) -> (B,).

    That is the sum of a pixel's 4 neighbours minus 4 times the pixel, where there are 4 (H, W ≥ 3). Blur lowers it, noise raises it.
    """
    images = to_unit_range(images)
    neighbours = images[..., :-2, 1:-1] + images[..., 2:, 1:-1] + images[..., 1:-1, :-2] + images[..., 1:-1, 2:]
    return (neighbours - 4 * images[..., 1:-1, 1:-1]).square().flatten(1).mean(1)


def lpips_file() -> Path:
    """Where torch keeps the weights that torchvision downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS


def lpips_network(device: torch.device) -> Callable[[Tensor, Tensor], Tensor] | None:
    """LPIPS (Zhang et al. 2018, 1801.03924) by torchmetrics: a function of two (B, C, H, W) in [-1, 1], clamped, to their distances (B,).

    None where the weights of its AlexNet are not at hand: nothing is ever downloaded.
    """
    if not lpips_file().is_file():
        return None
    from torchmetrics.functional.image.lpips import _LPIPS

    network = _LPIPS(pretrained=True, net="alex").to(device).eval()

    def distance(target: Tensor, output: Tensor) -> Tensor:
        shape = (-1, 3, -1, -1)  # grey is replicated
        return network(target.clamp(-1, 1).expand(shape), output.float().clamp(-1, 1).expand(shape)).view(-1)

    return distance
