"""Kernel distance: squared maximum mean discrepancy with a cubic kernel (KID: Bińkowski et al. 2018, 1801.01401).

The paper, and the usual code, average over random subsets of 1,000 images. Here all pairs of all images count: the same expectation
with less variance and nothing random.
"""

import torch
from torch import Tensor

from zoo.metrics.frechet import check_features

MIN_IMAGES = 2  # for one pair


def kernel_distance(a: Tensor, b: Tensor, chunk: int = 1024) -> float:
    """Unbiased MMD² of features (M, D) and (N, D), M, N >= 2, with k(x, y) = (x·y/D + 1)³, a U-statistic, in float64.

    Its expectation does not depend on M and N and is 0 for equal distributions, so single values may be negative. Not multiplied by
    100 or 1,000 as some tables do. Besides the features it holds a few blocks of (chunk, max(chunk, D)).

    Raises ZooError for fewer images, different D, or values not finite.
    """
    check_features("The kernel distance", MIN_IMAGES, a, b)
    within = _mean_within(a, chunk) + _mean_within(b, chunk)
    between = sum(_kernel(x, y).sum() for x in a.split(chunk) for y in b.split(chunk)) / (len(a) * len(b))
    return float(within - 2 * between)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """(M, D), (N, D) -> (M, N) float64."""
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def _mean_within(features: Tensor, chunk: int) -> Tensor:
    """Mean of k(x_i, x_j) over all i ≠ j. The kernel is symmetric: each pair of blocks is computed once."""
    parts = features.split(chunk)
    total = features.new_zeros((), dtype=torch.float64)
    for i, part in enumerate(parts):
        block = _kernel(part, part)
        total += block.sum() - block.trace()
        for other in parts[i + 1 :]:
            total += 2 * _kernel(part, other).sum()
    return total / (len(features) * (len(features) - 1))
