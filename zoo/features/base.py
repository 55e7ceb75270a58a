"""The contract of a features network."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Features(nn.Module, ABC):
    """A frozen network in eval mode: uint8 images in, one feature vector per image out, always in float32.

    It is part of every number made with it: `identity` goes into the results, and numbers of different features are never compared.
    """

    name: str  # "classifier" or "inception"; part of a metric's name unless it is the default
    dim: int  # D

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, D) float32. Each row depends on its image only. Callers hold `torch.no_grad()`."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What makes it this network, as JSON: name, D, sha256 of its weights, how it resizes, and for a classifier its accuracy."""
