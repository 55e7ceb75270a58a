"""Nearest neighbours among features or codes, exactly and in bounded memory."""

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.frechet import check_features


def nearest(queries: Tensor, base: Tensor, k: int, exclude_self: bool = False, chunk: int = 256) -> tuple[Tensor, Tensor]:
    """The k nearest of (N, D) `base` to each of (M, D) `queries`: Euclidean distances (M, k) float64, ascending, and indices (M, k).

    `exclude_self` says that queries is base and leaves out each row itself, by its index: copies of it count, at distance 0.

    Candidates are found by ‖x‖² + ‖y‖² - 2x·y of centred float64 rows, then measured again by their differences. Distances are so
    right to float64's last digits, and 0 for copies. A neighbour may be confused with another one only if their distances differ by
    less than about 1e-8 of the rows' distance from the mean, which float32 does not resolve; among equal ones any may come first.
    Besides a float64 copy of base it holds a few blocks of (chunk, N).

    Raises ZooError for fewer than k neighbours, different D, or values not finite.
    """
    check_features("Nearest neighbours", 1, queries, base)
    if exclude_self and len(queries) != len(base):
        raise ValueError(f"exclude_self is for queries that are the base, not {len(queries)} queries and a base of {len(base)}")
    if k > len(base) - exclude_self:
        others = " others" if exclude_self else ""
        raise ZooError(f"there are no {k} nearest neighbours among {len(base) - exclude_self}{others}: take more images.")
    mean = base.mean(0, dtype=torch.float64)
    base = base - mean  # (N, D) float64
    squares = torch.linalg.vecdot(base, base)  # (N,); unlike square().sum(1) without another copy
    distances, indices = [], []
    for start, part in zip(range(0, len(queries), chunk), queries.split(chunk), strict=True):
        part = part - mean  # (chunk, D) float64
        scores = torch.addmm(squares, part, base.T, alpha=-2)  # (chunk, N): ‖x - y‖² less ‖x‖², which does not change the order
        if exclude_self:
            scores.diagonal(start).fill_(torch.inf)
        found = scores.topk(k, largest=False).indices  # (chunk, k)
        exact = (base[found] - part[:, None]).square().sum(2)  # (chunk, k)
        exact, order = exact.sort(dim=1)
        distances.append(exact.sqrt())
        indices.append(found.gather(1, order))
    return torch.cat(distances), torch.cat(indices)
