"""How far a change of the images moves their codes."""

import torch
from torch import Tensor


def relative_distance(codes: Tensor, changed: Tensor, others: Tensor) -> Tensor:
    """mean ‖z - z'‖ / mean ‖z - z̃‖, scalar: 0 = the change is not noticed, 1 = it moves codes as far as another image would.

    Codes of images, of the same after the change, and of others: (N, latent_dim) × 3, of any scale. NaN if all codes are the same.
    """
    moved, apart = ((codes - other).norm(dim=1).mean() for other in (changed, others))
    return moved / torch.where(apart > 0, apart, torch.nan)
