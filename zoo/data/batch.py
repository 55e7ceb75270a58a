"""What a loader yields and a model's losses receive."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """One batch. `image` is uint8 as the loader yields it and float in [-1, 1] in a model's hands."""

    image: Tensor  # (B, C, H, W)
    attributes: Tensor  # (B, A) in {0, 1}, or one-hot classes
    index: Tensor  # type: ignore[assignment]  # (B,) int64, position in the store; hides tuple.index
