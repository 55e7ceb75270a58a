"""LPIPS (Zhang et al. 2018, 1801.03924) by torchmetrics, where its AlexNet is at hand: nothing is ever downloaded."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

SMALLEST = 32  # pixels that AlexNet needs
WEIGHTS = "alexnet-owt-7be5be79.pth"  # torchvision's file; the linear heads come with torchmetrics


def lpips_file() -> Path:
    """Where torch keeps the weights that torchvision downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS


def lpips_network(device: torch.device) -> Callable[[Tensor, Tensor], Tensor] | None:
    """A function of two (B, C, H, W) in [-1, 1], clamped, to their distances (B,); None where the weights are not at hand."""
    if not lpips_file().is_file():
        return None
    from torchmetrics.functional.image.lpips import _LPIPS

    network = _LPIPS(pretrained=True, net="alex").to(device).eval()

    def distance(target: Tensor, output: Tensor) -> Tensor:
        shape = (-1, 3, -1, -1)  # grey is replicated
        return network(target.clamp(-1, 1).expand(shape), output.float().clamp(-1, 1).expand(shape)).view(-1)

    return distance
