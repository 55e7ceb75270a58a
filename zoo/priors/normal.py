"""Standard normal and full-covariance Gaussian."""

import math

import torch
from torch import Generator, Tensor

from zoo.errors import ZooError
from zoo.priors.base import Prior


def normal_draws(count: int, dim: int, like: Tensor, generator: Generator | None) -> Tensor:
    """N(0, I) draws (count, dim) on the device of `like`; drawn where the generator lives."""
    device = generator.device if generator is not None else like.device
    return torch.randn(count, dim, generator=generator, device=device).to(like)


def enough(latents: Tensor, dim: int) -> Tensor:
    """`latents` in float64, checked: finite, (N, dim), and more than one."""
    if latents.ndim != 2 or latents.shape[1] != dim or len(latents) < 2:
        raise ZooError(f"A prior over {dim} dimensions cannot be fitted to latents of shape {tuple(latents.shape)}; give (N, {dim}).")
    if not latents.isfinite().all():
        raise ZooError("A prior cannot be fitted: some latents are not finite; the model has diverged, so lower its learning rate.")
    return latents.double()


class StandardNormal(Prior):
    """N(0, T²I), the standard normal unless a temperature T is given: flows draw samples of less variety at T < 1."""

    anchor: Tensor

    name = "normal"
    needs_fit = False

    def __init__(self, dim: int, temperature: float = 1.0) -> None:
        super().__init__(dim)
        if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
            raise ZooError(f"The temperature of a normal prior is {temperature}; it must be a positive number.")
        self.temperature = float(temperature)
        self.register_buffer("anchor", torch.zeros(()), persistent=False)  # only tells the device

    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        return self.temperature * normal_draws(count, self.dim, self.anchor, generator)

    def log_prob(self, latents: Tensor) -> Tensor:
        return -0.5 * ((latents / self.temperature).square() + math.log(2 * math.pi * self.temperature**2)).sum(1)


class Gaussian(Prior):
    """N(m, Σ) with the latents' mean and full covariance (ex-post density estimation, RAE, 1903.12436 §4)."""

    name = "gaussian"
    mean: Tensor
    scale_tril: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale_tril", torch.eye(dim))  # Cholesky factor of Σ

    @torch.no_grad()
    def fit(self, latents: Tensor, seed: int = 0) -> None:
        latents = enough(latents.cpu(), self.dim)
        covariance = torch.atleast_2d(latents.T.cov())
        jitter = 1e-6 * covariance.diagonal().mean().clamp_min(1e-12)  # N <= dim, or a constant dimension
        self.mean.copy_(latents.mean(0))
        self.scale_tril.copy_(torch.linalg.cholesky(covariance + jitter * torch.eye(self.dim, dtype=torch.float64)))

    def is_fitted(self) -> bool:
        return bool(self.mean.any())

    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        return self.mean + normal_draws(count, self.dim, self.mean, generator) @ self.scale_tril.T

    def log_prob(self, latents: Tensor) -> Tensor:
        white = torch.linalg.solve_triangular(self.scale_tril, (latents - self.mean).T, upper=False)  # (dim, B)
        log_det = self.scale_tril.diagonal().log().sum()
        return -0.5 * (white.square() + math.log(2 * math.pi)).sum(0) - log_det
