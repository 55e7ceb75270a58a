"""How good interpolations are: how evenly a path runs through feature space, and ACAI's Mean Distance and Smoothness of lines.

Protocol of the paper (https://arxiv.org/abs/1807.07543, section 3.2): 512 test lines make 256 pairs, each interpolated in 16 steps with
the end points. 0 is best for both numbers. Two things they do not see: which way round a line turned, and anything but the nearest line's
angle.
"""

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TEMPLATES, SIZE = 10_000, 32  # lines that images are compared with, and their pixels


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


class LineScores(NamedTuple):
    """Scores of P interpolations of N images."""

    mean_distance: float  # cosine distance to the nearest line, mean over all P·N images
    smoothness: float  # as the authors' code: the sum over defined interpolations, divided by the number of *all* of them
    smoothness_unbiased: float  # mean over defined interpolations
    undefined: float  # share of interpolations whose first and last line have the same angle, so that nothing is defined


def line_templates(count: int = TEMPLATES) -> tuple[Tensor, Tensor]:
    """Unit vectors (count, 1024) float64 and angles (count,) of lines at equal steps from 0, all but 2π."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    images = torch.from_numpy(draw(angles)).double().flatten(1)
    return torch.nn.functional.normalize(images), torch.from_numpy(angles)


@functools.cache
def _templates(device: torch.device) -> tuple[Tensor, Tensor]:
    """`line_templates`, the lines as columns (1024, count) on the device: 82 MB that every evaluation needs."""
    lines, angles = line_templates()
    return lines.T.contiguous().to(device), angles


def nearest_lines(images: Tensor, chunk: int = 512) -> tuple[Tensor, Tensor]:
    """Cosine distance to the nearest of 10,000 lines and its angle, both (B,) float64 on the CPU, for (B, ...) of 1024 values in [-1, 1].

    In float64, because a perfect line is only 2e-7 away: less than float32 resolves. An image of zeros has distance 1.
    """
    lines, angles = _templates(images.device)
    best = [torch.nn.functional.normalize(part.flatten(1).double()).mm(lines).max(1) for part in images.split(chunk)]
    return 1 - torch.cat([part.values for part in best]).cpu(), angles[torch.cat([part.indices for part in best]).cpu()]


def smoothness(angles: Tensor) -> Tensor:
    """(P,) for the angles (P, N) along P interpolations: the largest step as a share of the whole turn, less 1/(N - 1).

    0 is perfectly even, 1 - 1/(N - 1) one single jump, more if it turns back. NaN where the whole turn is below 1e-4 (undefined).
    """
    turned = np.unwrap(angles.numpy())
    whole = np.abs(turned[:, -1] - turned[:, 0])
    largest = np.abs(np.diff(turned)).max(1)
    share = np.divide(largest, whole, out=np.full_like(whole, np.nan), where=whole >= 1e-4)
    return torch.from_numpy(share - 1 / (angles.shape[1] - 1))


def mean_distance_and_smoothness(images: Tensor) -> LineScores:
    """Scores interpolations (P, N, 32, 32) or (P, N, 1, 32, 32) in [-1, 1], N >= 2, end points included."""
    if images.ndim not in (4, 5) or images[0, 0].numel() != 1024 or images.shape[1] < 2:
        raise ValueError(f"interpolations of lines are (P, N, 32, 32) with N >= 2, not {tuple(images.shape)}")
    distance, angles = nearest_lines(images.flatten(0, 1))
    score = smoothness(angles.view(images.shape[:2]))
    undefined = score.isnan().double().mean().item()
    total = float("nan") if undefined == 1 else score.nansum().item()
    return LineScores(distance.mean().item(), total / len(score), score.nanmean().item(), undefined)


def draw(angles: np.ndarray) -> np.ndarray:
    """Lines at the given angles (N,) in radians, counter-clockwise from the right, as (N, 1, 32, 32) float32: -1 ground, +1 line.

    Pixel for pixel what the authors' `draw_line` gives. The line is scanned along its longer axis; in each scan row it is 2 px wide *along
    the row*, whatever the slope (so 1.41 px across at 45°), and pixels are weighted by the part of them that it covers. Half a pixel of
    offset along the scan and a whole last row at the lower or right end belong to the original too.
    """
    angles = np.asarray(angles, np.float64)
    centre, length = SIZE / 2, SIZE / 2 - 1
    right, down = length * np.cos(angles), -length * np.sin(angles)
    lies = np.abs(down) < np.abs(right)  # (N,), scanned by columns, drawn transposed
    major, minor = np.where(lies, right, down), np.where(lies, down, right)

    scan = np.arange(SIZE)
    first, last = centre + np.minimum(major, 0), centre + np.maximum(major, 0)
    rows = np.clip(scan + 1 - first[:, None], 0, 1) * (scan < np.ceil(last)[:, None])  # (N, 32), how much of a scan row counts
    left = centre - 1 + (scan - centre - 0.5) * (minor / major)[:, None]  # (N, 32), where the 2 px begin in each scan row
    covered = np.minimum(scan + 1, left[..., None] + 2) - np.maximum(scan, left[..., None])  # (N, 32, 32), row × pixel in it
    image = 2 * rows[..., None] * np.clip(covered, 0, 1) - 1
    image[lies] = image[lies].swapaxes(1, 2)
    return image[:, None].astype(np.float32)
