"""A multi-scale image flow: Glow (Kingma & Dhariwal, 1807.03039, figure 2b) and, without the first squeeze, the flow of f-VAE (1809.05861).

    level 1…L:  Squeeze → depth × (ActNorm → 1×1 convolution or permutation → coupling) → Split (not in the last level)
    then:       ActNorm

What leaves at a split is already standardised, so that every z is meant to be N(0, I): the learned priors of the splits, and Glow's
learned top prior as the last ActNorm, are part of the map.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from zoo.errors import ZooError
from zoo.losses import at_least_float32
from zoo.nets.flows import CHUNK, ActNorm, Flow, Split, Step, finite, no_log_det
from zoo.nets.reversible import Steps

CHOICES = {
    "coupling": ("affine", "additive"),
    "scale": ("sigmoid", "tanh"),
    "permutation": ("conv", "fixed"),
    "actnorm": ("data", "zero"),
    "memory": ("plain", "checkpoint", "reversible"),
}


class ImageFlow(Flow):
    """An invertible map between images of one shape and flat vectors of as many values.

    Args:
        shape: (C, H, W).
        levels: Number of scales; None: as many as there can be, down to 2×2 pixels. With fewer, samples fall apart into patches.
        depth: Steps per level.
        width: Channels of the couplings' hidden layers.
        coupling: "affine" or "additive" (log-determinants come from ActNorms, 1×1 convolutions and splits alone).
        scale: Of affine couplings: "sigmoid" (Glow's code) or "tanh".
        permutation: "conv", the learned 1×1 convolution, or "fixed", a random permutation (f-VAE).
        actnorm: "data", set by `initialize`, or "zero", which starts as the identity (f-VAE).
        squeeze_first: False leaves out the first level's Squeeze (f-VAE: the encoder has squeezed already).
        memory: What training keeps for the backward pass: "plain" everything, "checkpoint" each step's input, "reversible" each level's
            output (Steps).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        levels: int | None,
        depth: int,
        width: int,
        coupling: str = "affine",
        scale: str = "sigmoid",
        permutation: str = "conv",
        actnorm: str = "data",
        squeeze_first: bool = True,
        memory: str = "plain",
    ) -> None:
        super().__init__()
        chosen = {"coupling": coupling, "scale": scale, "permutation": permutation, "actnorm": actnorm, "memory": memory}
        for name, value in chosen.items():
            if value not in CHOICES[name]:
                raise ZooError(f"model.flow.{name} is '{value}'; it must be {' or '.join(map(repr, CHOICES[name]))}.")
        channels, height, breadth = shape
        if levels is None:
            levels = most_halvings(min(height, breadth)) + (not squeeze_first)
        for name, count in (("levels", levels), ("depth", depth), ("width", width)):
            if count < 1:
                raise ZooError(f"model.flow.{name} is {count}; it must be at least 1.")
        halvings = levels - (not squeeze_first)
        if height % 2**halvings or breadth % 2**halvings:
            raise ZooError(
                f"A flow of {levels} levels cannot halve {height}×{breadth} pixels {halvings} times; "
                f"set model.flow.levels=null for as many as there can be, or choose another data.image_size."
            )
        if channels % 2 and not squeeze_first:
            raise ZooError(f"A flow cannot halve {channels} channels; give it an even number of channels or let it squeeze first.")

        self.levels: Any = nn.ModuleList()  # of Steps
        self.splits: Any = nn.ModuleList()  # of Split
        self.shapes = []  # of the parts of z, in their order
        for level in range(levels):
            if level or squeeze_first:
                channels, height, breadth = 4 * channels, height // 2, breadth // 2
            steps = [Step(channels, width, coupling == "affine", scale, permutation == "conv") for _ in range(depth)]
            self.levels.append(Steps(steps, memory))
            if level < levels - 1:
                self.splits.append(Split(channels))
                channels //= 2
            self.shapes.append((channels, height, breadth))
        self.last = ActNorm(channels)
        self.squeeze_first, self.actnorm, self.permutation = squeeze_first, actnorm, permutation

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z, flat and in the order in which it leaves the flow, and log_det: (B, C, H, W) -> (B, C·H·W), (B,)."""
        x, total, parts = self.to_flow_dtype(x), no_log_det(x), []
        for level, steps in enumerate(self.levels):
            x, log_det = steps(self.squeezed(x, level))  # (B, C, H, W) of this level
            total = total + log_det
            if level < len(self.splits):
                x, part, log_det = self.splits[level](x)  # (B, C/2, H, W) each
                parts.append(part.flatten(1))
                total = total + log_det
        x, log_det = self.last(x)
        return torch.cat([*parts, x.flatten(1)], 1), total + log_det

    def inverse(self, z: Tensor) -> Tensor:
        """(B, C·H·W) -> (B, C, H, W)."""
        flat = at_least_float32(z).split([math.prod(shape) for shape in self.shapes], 1)
        parts = [part.unflatten(1, shape) for part, shape in zip(flat, self.shapes, strict=True)]
        x = self.last.inverse(self.to_flow_dtype(parts[-1]))
        for level in reversed(range(len(self.levels))):
            if level < len(self.splits):
                x = self.splits[level].inverse(x, parts[level])
            x = self.levels[level].inverse(x)
            if level or self.squeeze_first:
                x = pixel_shuffle(x, 2)
        return x

    def initialize(self, x: Tensor) -> Tensor:
        """Passes x through the flow layer by layer, each ActNorm set from the output of all layers before it; returns z."""
        if self.actnorm == "zero":
            return super().initialize(x)
        x, parts = self.to_flow_dtype(x), []
        for level, steps in enumerate(self.levels):
            x = steps.initialize(self.squeezed(x, level))
            if level < len(self.splits):
                pairs = [self.splits[level](some)[:2] for some in x.split(CHUNK)]
                x, part = (torch.cat(half) for half in zip(*pairs, strict=True))
                parts.append(part.flatten(1))
        return torch.cat([*parts, self.last.initialize(x).flatten(1)], 1)

    @torch.no_grad()
    def first_not_finite(self, x: Tensor) -> str:
        """The first layer that gives something not finite for x (B, C, H, W), as "level 2, step 7 of 16, coupling"; "" if none does."""
        x, mixing = self.to_flow_dtype(x), "1×1 convolution" if self.permutation == "conv" else "permutation"
        if not finite(x):
            return "the input"
        for level, steps in enumerate(self.levels):
            x, where = self.squeezed(x, level), f"level {level + 1}"
            for index, step in enumerate(steps.steps, 1):
                for name, layer in (("ActNorm", step.actnorm), (mixing, step.mixing), ("coupling", step.coupling)):
                    x, log_det = layer(x)
                    if not finite(x, log_det):
                        return f"{where}, step {index} of {len(steps.steps)}, {name}"
            if level < len(self.splits):
                x, part, log_det = self.splits[level](x)
                if not finite(x, part, log_det):
                    return f"{where}, split"
        return "" if finite(*self.last(x)) else "the last ActNorm"

    def squeezed(self, x: Tensor, level: int) -> Tensor:
        """x at the resolution of a level: each 2×2 block of pixels moves into channels, §3.6 of RealNVP, 1605.08803."""
        return pixel_unshuffle(x, 2) if level or self.squeeze_first else x

    @staticmethod
    def to_flow_dtype(x: Tensor) -> Tensor:
        """x in the precision and layout of the flow."""
        return at_least_float32(x).contiguous(memory_format=torch.channels_last)


def most_halvings(pixels: int) -> int:
    """How often an even number of pixels can be halved until 2, or an odd number, are left."""
    count = 0
    while pixels > 2 and pixels % 2 == 0:
        pixels, count = pixels // 2, count + 1
    return count
