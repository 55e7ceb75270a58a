"""How far a change of the images moves their codes."""

import torch
from torch import Tensor


def relative_distance(codes: Tensor, changed: Tensor, others: Tensor) -> Tensor:
    """mean ‖z - z'‖ / mean ‖z - z̃‖, scalar: 0 = the change is not noticed, 1 = it moves codes as far as another image would.

    Neither scaling nor shifting of the codes changes it. NaN if all codes are the same.

    Args:
        codes: z, of images, (N, latent_dim).
        changed: z', of the same images after the change, (N, latent_dim).
        others: z̃, of other images, (N, latent_dim).
    """
    moved, apart = ((codes - other).norm(dim=1).mean() for other in (changed, others))
    return moved / torch.where(apart > 0, apart, torch.nan)
