"""The contract of a density over latents."""

from abc import ABC, abstractmethod

from torch import Generator, Tensor, nn

from zoo.nets.described import Described


class Prior(Described, nn.Module, ABC):
    """A density over (B, dim) latents, the standard normal until it is fitted. What it learns is in its state dict."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    name: str  # in tables
    needs_fit = True

    def fit(self, latents: Tensor, seed: int = 0) -> None:
        """Fits the density to latents (N, dim)."""

    def is_fitted(self) -> bool:
        """Whether `fit` has been called."""
        return True

    @abstractmethod
    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draws latents (count, dim), on the prior's device. A CPU generator gives the same latents on every device."""

    @abstractmethod
    def log_prob(self, latents: Tensor) -> Tensor:
        """Log-density in nats: (B, dim) -> (B,)."""
