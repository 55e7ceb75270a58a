"""How separately known factors are coded: the mutual information gap (Chen et al. 2018, 1802.04942, eq. 4 and 6).

Discretised as by Locatello et al. 2019 (1811.12359, appendix C): 20 bins of equal width between the least and the largest value. The
mutual information of a histogram is too large by about (bins - 1)² / 2N nats; in the gap of two codes that cancels but for the noise.
"""

import numpy as np
import torch
from scipy.special import entr
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.feature_sets import check_features

MIN_IMAGES = 2
CELLS = 4_000_000  # discretised codes in memory at once


def mutual_information_gap(codes: Tensor, factors: Tensor, bins: int = 20) -> Tensor:
    """(F,) float64 in [0, 1], one gap per factor, for codes (N, D) and factors (N, F); the score is their mean.

    (I₁ - I₂) / H: how much more the most informative dimension of the codes tells about the factor than the second one does, as a
    share of the factor's entropy. 1: one dimension holds all of it and no other any. Factors of at most `bins` different values are
    taken as they are. NaN for a constant factor.

    Raises ZooError for fewer than 2 images, fewer than 2 dimensions, or values not finite.
    """
    check_features("The mutual information gap", MIN_IMAGES, codes)
    if len(factors) != len(codes) or factors.ndim != 2:
        raise ValueError(f"factors are (N, F) with N = {len(codes)}, not {tuple(factors.shape)}")
    if codes.shape[1] < 2:
        raise ZooError("The mutual information gap compares dimensions of the codes: it needs at least 2 of them, and there is only 1.")
    causes = [_values(column, bins) for column in factors.double().cpu().numpy().T]
    block = max(1, CELLS // len(codes))  # dimensions at once
    information = np.concatenate([_mutual_informations(part.double().cpu().numpy(), causes, bins) for part in codes.split(block, 1)])
    second, first = np.partition(information, -2, axis=0)[-2:]  # (F,)
    entropies = np.array([_entropy(np.bincount(cause), len(codes)) for cause in causes])  # (F,)
    gaps = np.divide(first - second, entropies, out=np.full_like(entropies, np.nan), where=entropies > 0)
    return torch.from_numpy(gaps)


def _mutual_informations(codes: np.ndarray, causes: list[np.ndarray], bins: int) -> np.ndarray:
    """(d, F) nats: I = H(code) + H(factor) - H(code, factor) from joint histograms of codes (N, d) with each discretised factor (N,)."""
    count, dims = codes.shape
    cells = (_equal_width(codes, bins) + bins * np.arange(dims)).T.copy()  # (d, N): dimension and bin in one number
    alone = _entropy(np.bincount(cells.ravel(), minlength=dims * bins).reshape(dims, bins), count)  # (d,)
    columns = []
    for cause in causes:
        joint = np.bincount((cells + dims * bins * cause).ravel(), minlength=dims * bins * (cause.max() + 1)).reshape(-1, dims, bins)
        columns.append(alone + _entropy(np.bincount(cause), count) - _entropy(joint.transpose(1, 0, 2).reshape(dims, -1), count))
    return np.stack(columns, 1)


def _entropy(counts: np.ndarray, total: int) -> np.ndarray:
    """Nats of histograms (..., K) of `total` values: (...)."""
    return entr(counts / total).sum(-1)


def _values(factor: np.ndarray, bins: int) -> np.ndarray:
    """A factor (N,) as small integers: its own values if there are few, else bins."""
    values, which = np.unique(factor, return_inverse=True)
    return which if len(values) <= bins else _equal_width(factor[:, None], bins)[:, 0]


def _equal_width(values: np.ndarray, bins: int) -> np.ndarray:
    """Bins 0 to `bins` - 1 of equal width over the range of each column: (N, d) -> (N, d) int64. A constant column is all in bin 0."""
    low, high = values.min(0), values.max(0)
    width = np.where(high > low, (high - low) / bins, 1)
    return np.minimum((values - low) // width, bins - 1).astype(np.int64)
