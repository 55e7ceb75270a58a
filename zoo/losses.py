"""Losses as pure functions. Each states its equation and its reduction.

Likelihood terms are in nats per image, complete with their constants: summed over the D = C·H·W values of an image (or over
the latent dimensions), averaged over the batch. Everything is computed in float32 at least, also under autocast.
"""

import math

import torch
from torch import Tensor

LEVEL = 2 / 255  # between two of the 256 grey levels, on [-1, 1]


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32 at least."""
    return x if x.dtype == torch.float64 else x.float()


def mean_squared_error(target: Tensor, output: Tensor) -> Tensor:
    """mean (x - x̂)²: mean over all values and images, scalar."""
    return (at_least_float32(target) - at_least_float32(output)).square().mean()


def gaussian_nll(target: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """-log N(x; x̂, γ²I) = ‖x - x̂‖² / 2γ² + D·log γ + D/2·log 2π, in nats per image, mean over the batch, scalar.

    Args:
        target: x, (B, ...).
        mean: x̂, (B, ...).
        log_scale: log γ, scalar; γ is a standard deviation.
    """
    dimensions = target[0].numel()
    squared = (at_least_float32(target) - at_least_float32(mean)).square().sum() / target.shape[0]
    return squared * (-2 * log_scale).exp() / 2 + dimensions * (log_scale + math.log(2 * math.pi) / 2)


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, I)) = ½ Σ (μ² + σ² - 1 - log σ²), in nats per image, mean over the batch, scalar.

    Args:
        mean: μ, (B, latent_dim).
        log_variance: log σ², (B, latent_dim).
    """
    mean, log_variance = at_least_float32(mean), at_least_float32(log_variance)
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum() / mean.shape[0]


def bits_per_dim(nll: Tensor, dimensions: int, n_bits: int = 8, originals: int | None = None) -> Tensor:
    """-log p(x) in nats, of images of `dimensions` values on [-1, 1] -> bits per value of an image of `n_bits` bits.

    Pixels are integers, densities are not: x = v/127.5 - 1 + U(0, w) is measured, w = 2/255 · 2^(8 - n_bits) being the width of a cell, and
    density × w bounds the probability of the integer (Theis et al. 2016, 1511.01844, section 3.1): nll / (D·log 2) - log₂ w, for 8 bits
    + log₂ 127.5. The bits of padding count, but are shared out among the `originals`, the values that are not padding.
    """
    bits = nll / math.log(2) + dimensions * (math.log2(127.5) - (8 - n_bits))
    return bits / (originals or dimensions)
