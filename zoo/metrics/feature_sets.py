"""How close a set of generated images comes to a set of real ones, in features (N, D) of both. Only numbers of equal N compare.

Fréchet distance (FID: Heusel et al. 2017, 1706.08500, eq. 6) between the Gaussians that have the moments of both sets; it falls with N. Its
    usual code takes the root of a matrix that is not symmetric; here everything is symmetric and nothing complex appears.
Kernel distance (KID: Bińkowski et al. 2018, 1801.01401), the squared maximum mean discrepancy with a cubic kernel. The paper, and the usual
    code, average over random subsets of 1,000 images. Here all pairs of all images count: the same expectation with less variance and
    nothing random.
Precision and recall (Kynkäänniemi et al. 2019, 1904.06991, eq. 1), density and coverage (Naeem et al. 2020, 2002.09797, §3) by balls around
    each image's features. The radius of a ball is the distance to the k-th nearest neighbour within its own set, the image itself not
    counted. The first two use closed balls, as the paper writes them, the others open ones, as their authors' code does: a perfect copy of
    the real images has a density of exactly 1.
"""

from typing import NamedTuple

import torch
from scipy.linalg.lapack import dpstrf
from torch import Tensor

from zoo.errors import ZooError

CHUNK = 4096  # rows in float64 at once
PRECISION_RECALL_K = 3  # as in 1904.06991
DENSITY_COVERAGE_K = 5  # as in 2002.09797
SURFACE = 1e-13  # of ‖x‖² + ‖y‖²: squared distances this close are equal: a float32 network's own rounding is larger


def check_features(metric: str, minimum: int, *features: Tensor) -> None:
    """Raises ZooError unless all (N, D) sets have N >= `minimum` rows of the same D, all finite; `metric` begins the sentence."""
    for rows in features:
        if rows.ndim != 2:
            raise ValueError(f"features are (N, D), not {tuple(rows.shape)}")
        if len(rows) < minimum:
            raise ZooError(f"{metric} cannot be measured on fewer than {minimum} images, and there are {len(rows)}: take more images.")
        if rows.shape[1] != features[0].shape[1]:
            dims = f"{features[0].shape[1]} and {rows.shape[1]}"
            raise ZooError(f"{metric} cannot be measured between features of {dims} values: take both from the same features network.")
        if bad := int((~rows.isfinite().all(1)).sum()):
            raise ZooError(
                f"{metric} cannot be measured: {bad:,} of {len(rows):,} feature vectors are not finite; "
                "the model that made the images may have diverged."
            )


class Moments(NamedTuple):
    """What the Fréchet distance keeps of N features of D values."""

    mean: Tensor  # (D,) float64
    covariance: Tensor  # (D, D) float64, unbiased: divided by N - 1


def moments(features: Tensor) -> Moments:
    """Moments of (N, D) features, N >= 2, summed in float64 on their device. Raises ZooError for fewer images or values not finite."""
    check_features("The Fréchet distance", 2, features)
    count, dim = features.shape
    mean = torch.stack([part.double().sum(0) for part in features.split(CHUNK)]).sum(0) / count  # (D,)
    scatter = features.new_zeros(dim, dim, dtype=torch.float64)
    for part in features.split(CHUNK):
        centred = part.double() - mean  # before squaring: features lie far from 0, and large sums would cancel
        scatter.addmm_(centred.T, centred)
    return Moments(mean, scatter / (count - 1))


def frechet_distance(a: Moments, b: Moments) -> float:
    """‖μa - μb‖² + tr(Σa + Σb - 2 (ΣaΣb)^½), computed on the CPU; never negative, about 2 s on one core for D = 2048.

    With Σa = AAᵀ and Σb = BBᵀ, the eigenvalues of ΣaΣb are the squared singular values of AᵀB, so the last trace is the sum of the
    roots of the eigenvalues of the symmetric (AᵀB)(AᵀB)ᵀ. A and B have as many columns as their covariance has ranks (N - 1 if
    N <= D), so what is left is small, and seldom singular: roots of rounded zeros would cost half of the digits.

    Raises ZooError for moments of different D or not finite.
    """
    means, covariances = (a.mean.cpu(), b.mean.cpu()), (a.covariance.cpu(), b.covariance.cpu())
    check_features("The Fréchet distance", 1, *covariances, *(mean[None] for mean in means))
    product = _factor(covariances[0]).T @ _factor(covariances[1])  # (Ra, Rb)
    gram = product @ product.T if product.shape[0] <= product.shape[1] else product.T @ product  # (R, R), R = min(Ra, Rb)
    overlap = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().sum()
    traces = covariances[0].trace() + covariances[1].trace()
    return max(0.0, ((means[0] - means[1]).square().sum() + traces - 2 * overlap).item())


def _factor(covariance: Tensor) -> Tensor:
    """F with FFᵀ = covariance: (D, D) -> (D, R), R its numerical rank, by Cholesky's decomposition with pivots.

    LAPACK's `pstrf`, which torch lacks, stops at pivots below D · 2⁻⁵³ of the largest variance; seven times faster than `eigh`.
    """
    triangle, pivots, rank, _ = dpstrf(covariance.numpy().T, lower=1)  # ᵀ: in the order of Fortran, no copy; it is symmetric
    factor = torch.zeros(len(covariance), rank, dtype=torch.float64)
    factor[torch.from_numpy(pivots).long() - 1] = torch.from_numpy(triangle[:, :rank]).tril()
    return factor


def kernel_distance(a: Tensor, b: Tensor, chunk: int = 1024) -> float:
    """Unbiased MMD² of features (M, D) and (N, D), M, N >= 2, with k(x, y) = (x·y/D + 1)³, a U-statistic, in float64.

    Its expectation does not depend on M and N and is 0 for equal distributions, so single values may be negative. Not multiplied by
    100 or 1,000 as some tables do. Besides the features it holds a few blocks of (chunk, max(chunk, D)).

    Raises ZooError for fewer images, different D, or values not finite.
    """
    check_features("The kernel distance", 2, a, b)
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
    check_features("Precision and recall", DENSITY_COVERAGE_K + 1, real, fake)
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
