"""A small convolutional classifier: what the evaluation looks at images with (`zoo.features.classifier`).

Four stages halve the image each, so 64×64 pixels end as 4×4 and 28×28 as 2×2. BatchNorm only while it is trained: `fused` folds it
into the convolutions, so that a ready network is faster and an image's result does not depend on its neighbours.
"""

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from zoo.errors import ZooError

WIDTHS = (24, 48, 96, 128)  # of the stages
DEPTHS = (1, 2, 2, 2)  # convolutions in each
GRID = 2  # the last map is averaged over GRID×GRID fields, so that the answer may depend on where something is
SMALLEST = 16  # pixels
EPSILON = 1e-5  # of BatchNorm


def block(before: int, width: int, stride: int, norm: bool) -> nn.Sequential:
    """3×3 convolution, BatchNorm unless it is folded in, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(before, width, 3, stride, 1, bias=not norm)]
    return nn.Sequential(*layers, *([nn.BatchNorm2d(width, EPSILON)] if norm else []), nn.ReLU(inplace=True))


class ConvClassifier(nn.Module):
    """(B, C, H, W) in [-1, 1], C = 1 or 3, H = W >= 16 (made for 28 to 128) -> logits (B, outputs) of classes or attributes.

    With BatchNorm, to be trained; without (`norm=False`), as `fused` makes it.
    """

    def __init__(self, channels: int, outputs: int, norm: bool = True) -> None:
        super().__init__()
        self.channels, self.outputs = channels, outputs
        before = (channels, *WIDTHS)
        self.stages: Any = nn.ModuleList(
            nn.Sequential(*(block(width if i else narrow, width, 1 if i else 2, norm) for i in range(depth)))
            for narrow, width, depth in zip(before, WIDTHS, DEPTHS, strict=False)
        )
        self.head = nn.Linear(WIDTHS[-1] * GRID**2, outputs)

    def maps(self, x: Tensor) -> list[Tensor]:
        """What each stage makes of the images: (B, width, H/2, W/2), (B, width, H/4, W/4), …, all >= 0."""
        if x.ndim != 4 or x.shape[1] != self.channels or x.shape[2] != x.shape[3]:
            raise ValueError(f"the classifier takes square images (B, {self.channels}, H, H), not {tuple(x.shape)}")
        if x.shape[2] < SMALLEST:
            raise ZooError(f"Images of {x.shape[2]} pixels are too small for the features' network; it needs {SMALLEST} or more.")
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def means(self, x: Tensor) -> Tensor:
        """The means over the image of the first and the last stage's maps: (B, D)."""
        maps = self.maps(x)
        return torch.cat([maps[0].mean((2, 3)), maps[-1].mean((2, 3))], 1)

    def logits(self, last: Tensor) -> Tensor:
        """(B, outputs) from the last of `maps`."""
        return self.head(adaptive_avg_pool2d(last, GRID).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.maps(x)[-1])

    def fused(self) -> "ConvClassifier":
        """The same function in eval mode, with BatchNorm's running statistics folded into the convolutions."""
        with torch.device("meta"):  # draws no random numbers
            ready = ConvClassifier(self.channels, self.outputs, norm=False)
        for new, old in zip(chain(*ready.stages), chain(*self.stages), strict=True):
            conv, bn = old[0].state_dict(), old[1].state_dict()
            scale = bn["weight"] * (bn["running_var"] + EPSILON).rsqrt()
            weight, bias = conv["weight"] * scale[:, None, None, None], bn["bias"] - bn["running_mean"] * scale
            new[0].load_state_dict({"weight": weight, "bias": bias}, assign=True)
        ready.head.load_state_dict(self.head.state_dict(), assign=True)
        return ready.eval().requires_grad_(False)
