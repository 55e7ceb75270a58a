"""How evenly a path through feature space is walked."""

import torch
from torch import Tensor


def path_smoothness(features: Tensor) -> Tensor:
    """The largest step's share of the path's length, less 1/(N - 1): (P, N, D) -> (P,) float64; NaN where nothing changes.

    As ACAI's smoothness of a line's angle (1807.07543, section 3.2): 0 is perfectly even, 1 - 1/(N - 1) one single jump.
    """
    if features.ndim != 3 or features.shape[1] < 2:
        raise ValueError(f"paths are (P, N, D) with N >= 2, not {tuple(features.shape)}")
    steps = features.double().diff(dim=1).norm(dim=2)  # (P, N - 1)
    length = steps.sum(1)
    share = steps.amax(1) / torch.where(length > 0, length, torch.nan)
    return share - 1 / steps.shape[1]
