"""How far generated images lie among the real ones, and the other way round, by balls around each image's features.

The radius of a ball is the distance to the k-th nearest neighbour within its own set, the image itself not counted. Precision and recall
(Kynkäänniemi et al. 2019, 1904.06991, eq. 1) use closed balls, as the paper writes them. Density and coverage (Naeem et al. 2020,
2002.09797, §3) use open ones, as their authors' code does: a perfect copy of the real images has a density of exactly 1.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.frechet import check_features

PRECISION_RECALL_K = 3  # as in 1904.06991
DENSITY_COVERAGE_K = 5  # as in 2002.09797
MIN_IMAGES = DENSITY_COVERAGE_K + 1
SURFACE = 1e-13  # of ‖x‖² + ‖y‖²: squared distances this close are equal: a float32 network's own rounding is larger


class ManifoldScores(NamedTuple):
    """Scores of N generated against N real images; all but density are shares in [0, 1]."""

    precision: float  # of generated images within any real image's ball: are they realistic?
    recall: float  # of real images within any generated image's ball: are they all reachable?
    density: float  # real balls around a generated image, over k: precision that one outlier hardly lifts; 1 is expected of real images
    coverage: float  # of real images whose ball holds a generated image: recall that no generated outlier lifts; 1 - 2⁻ᵏ for real images


def manifold_scores(real: Tensor, fake: Tensor, chunk: int = 256) -> ManifoldScores:
    """Scores of features (N, D) × 2, N >= 6, in float64 on their device; below 1 GiB on top of them for N = 10,000 and D = 2048.

    The balls shrink as N grows, so N must be equal and only scores of equal N compare.

    Raises ZooError for unequal N, fewer images, different D, or values not finite.
    """
    check_features("Precision and recall", MIN_IMAGES, real, fake)
    if len(real) != len(fake):
        raise ZooError(
            f"Precision and recall need as many generated as real images, not {len(fake):,} and {len(real):,}: "
            "take the same number of both."
        )
    real_distances, fake_distances = neighbour_distances(real, DENSITY_COVERAGE_K), neighbour_distances(fake, PRECISION_RECALL_K)
    real_radius, fake_radius = (distances[:, PRECISION_RECALL_K - 1].square() for distances in (real_distances, fake_distances))  # (N,)
    real_wide_radius = real_distances[:, DENSITY_COVERAGE_K - 1].square()  # (N,)

    mean = real.mean(0, dtype=torch.float64)
    real, fake = real - mean, fake - mean  # float64
    real_squares, fake_squares = torch.linalg.vecdot(real, real), torch.linalg.vecdot(fake, fake)  # (N,)
    precise = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    recalled = covered = inside = 0
    for part, part_squares, radius, wide_radius in zip(
        *(rows.split(chunk) for rows in (real, real_squares, real_radius, real_wide_radius)), strict=True
    ):
        squares = part_squares[:, None] + fake_squares  # (chunk, N)
        distances = torch.addmm(squares, part, fake.T, alpha=-2)  # (chunk, N), squared
        slack = squares.mul_(SURFACE)
        closed = distances - slack
        precise |= (closed <= radius[:, None]).any(0)
        recalled += int((closed <= fake_radius).any(1).sum())
        within = distances.add_(slack) < wide_radius[:, None]
        covered += int(within.any(1).sum())
        inside += int(within.sum())
    count = len(real)
    return ManifoldScores(int(precise.sum()) / count, recalled / count, inside / (DENSITY_COVERAGE_K * count), covered / count)


def neighbour_distances(rows: Tensor, k: int, chunk: int = 256) -> Tensor:
    """Euclidean distances of each of (N, D) rows to the k < N nearest others: (N, k) float64, ascending, 0 for copies.

    Candidates are found by ‖x‖² + ‖y‖² - 2x·y of centred float64 rows, then measured again by their differences. Distances are so right to
    float64's last digits. A neighbour may be confused with another one only if their distances differ by less than about 1e-8 of the rows'
    distance from the mean, which float32 does not resolve. Besides a float64 copy of the rows it holds a few blocks of (chunk, N).
    """
    rows = rows - rows.mean(0, dtype=torch.float64)  # (N, D) float64
    squares = torch.linalg.vecdot(rows, rows)  # (N,); unlike square().sum(1) without another copy
    distances = []
    for start, part in zip(range(0, len(rows), chunk), rows.split(chunk), strict=True):
        scores = torch.addmm(squares, part, rows.T, alpha=-2)  # (chunk, N): ‖x - y‖² less ‖x‖², which does not change the order
        scores.diagonal(start).fill_(torch.inf)  # the row itself
        found = scores.topk(k, largest=False).indices  # (chunk, k)
        exact = (rows[found] - part[:, None]).square().sum(2)  # (chunk, k)
        distances.append(exact.sort(dim=1).values.sqrt())
    return torch.cat(distances)
