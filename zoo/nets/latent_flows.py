"""Flows of latent vectors: affine couplings (RealNVP, Dinh et al., 1605.08803) and invertible residual networks (1811.00995).

Both start as the identity, and compute in float32 at least, also under autocast. `reset_parameters` gives them fresh initial weights.

Differs from the papers: the nets of the couplings are smooth (ELU), which fits ten thousand codes clearly better than ReLU. The residual
network's log-determinant is exact, not a truncated series, and its weights are scaled by a computed upper bound of their norm: the power
iteration approaches the norm from below, and has a state to keep.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.transforms import MonotonicAffineTransform

from zoo.errors import ZooError
from zoo.losses import at_least_float32
from zoo.nets.flows import ActNorm, Flow, back_through, finite, through

SLOPE = 0.05  # a coupling scales by 1/20 to 20: no sample is thrown far away
MARGIN = 1e-4  # below the bound, in logs: above the rounding of float32
SQUARINGS = 7  # of WᵀW, in `norm_bound`
CONVERGED = 1e-12  # relative change of a fixed-point iteration's last step


class AffineCoupling(Flow):
    """The dimensions named by `stays`, (dim,) bool, scale and move the others, by a net with two layers of `hidden` units (zuko's)."""

    coupling: Any
    order: Tensor
    back: Tensor

    def __init__(self, stays: Tensor, hidden: int) -> None:
        super().__init__()
        univariate = partial(MonotonicAffineTransform, slope=SLOPE)
        options = {"univariate": univariate, "hidden_features": (hidden, hidden), "activation": nn.ELU}
        self.coupling = GeneralCouplingTransform(len(stays), mask=stays, **options)
        self.parts = [int(stays.sum()), int((~stays).sum())]
        self.register_buffer("order", (~stays).int().argsort(stable=True))  # those that stay first; zuko searches its mask at every call
        self.register_buffer("back", self.order.argsort())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            stays, moves = at_least_float32(x).index_select(1, self.order).split(self.parts, 1)
            moved, log_det = self.coupling.meta(None, stays).call_and_ladj(moves)
            return torch.cat([stays, moved], 1).index_select(1, self.back), log_det

    def inverse(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            stays, moved = at_least_float32(z).index_select(1, self.order).split(self.parts, 1)
            moves = self.coupling.meta(None, stays).inv(moved)
            return torch.cat([stays, moves], 1).index_select(1, self.back)

    def reset_parameters(self) -> None:
        """Fresh weights, with a last layer of 0: the identity."""
        *before, last = (layer for layer in self.coupling.hyper if hasattr(layer, "reset_parameters"))
        for layer in before:
            layer.reset_parameters()
        for parameter in last.parameters():
            nn.init.zeros_(parameter)


class LayeredFlow(Flow):
    """Flows of latents one after the other."""

    def __init__(self, layers: Sequence[Flow]) -> None:
        super().__init__()
        self.layers: Any = nn.ModuleList(layers)
        self.reset_parameters()

    def initialize(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer.initialize(x)
        return x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return through(self.layers, x)

    def inverse(self, z: Tensor) -> Tensor:
        return back_through(self.layers, z)

    def reset_parameters(self) -> None:
        """Fresh weights: the identity, until `initialize` is called."""
        for layer in self.layers:
            layer.reset_parameters()

    @torch.no_grad()
    def first_not_finite(self, x: Tensor) -> str:
        for number, layer in enumerate(self.layers, 1):
            x, log_det = layer(x)
            if not finite(x, log_det):
                return f"layer {number} of {len(self.layers)}"
        return ""


class CouplingFlow(LayeredFlow):
    """Affine couplings: one random half of the dimensions moves the other and is then moved by it, and so on with other halves.

    The halves are the same in every net of as many dimensions.

    Args:
        dim: Dimensions, at least 2. Raises ZooError for fewer, as all three do.
        transforms: Couplings, at least 2.
        hidden: Width of the two hidden layers of each coupling's net.
    """

    def __init__(self, dim: int, transforms: int = 8, hidden: int = 128) -> None:
        if dim < 2:
            raise ZooError(f"A coupling flow halves the latent dimensions, but there is {dim}; raise model.latent_dim.")
        if transforms < 2 or hidden < 1:
            raise ZooError(f"A coupling flow has at least 2 transforms of width 1, not {transforms} of width {hidden}; raise model.flow's.")
        generator = Generator().manual_seed(dim)
        halves = [torch.randperm(dim, generator=generator) < dim // 2 for _ in range(0, transforms, 2)]
        parts = [part for half in halves for part in (half, ~half)]
        super().__init__([AffineCoupling(stays, hidden) for stays in parts[:transforms]])


class ResidualBlock(Flow):
    """z = x + g(x), g = 3 × (ELU, linear), invertible as no two points come closer than 1 - `lipschitz` times their distance.

    Each weight's spectral norm is at most the third root of `lipschitz` < 1, and |ELU'| <= 1. Both hidden layers have `hidden` units, H.
    """

    linears: Any  # nn.ModuleList

    def __init__(self, dim: int, hidden: int, lipschitz: float) -> None:
        super().__init__()
        self.linears = nn.ModuleList([nn.Linear(dim, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, dim)])
        self.lipschitz = lipschitz

    def weights(self) -> list[Tensor]:
        """The three weights, scaled down where their norm is above the bound."""
        log_bound = (math.log(self.lipschitz) - MARGIN) / len(self.linears)
        return [linear.weight * (log_bound - log_norm_bound(linear.weight)).clamp_max(0).exp() for linear in self.linears]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The Jacobian I + ∂g/∂x is multiplied out for each row: B·H·D·(H + 2D) multiplications, and B·H·D numbers kept per layer."""
        with torch.autocast(x.device.type, enabled=False):
            hidden, jacobian = at_least_float32(x), torch.eye(x.shape[1], dtype=at_least_float32(x).dtype, device=x.device)
            for linear, weight in zip(self.linears, self.weights(), strict=True):
                slope = torch.where(hidden > 0, 1.0, hidden.clamp_max(0).exp())  # ELU'
                jacobian = weight @ (slope[:, :, None] * jacobian)  # (B, H, D), at last (B, D, D)
                hidden = F.linear(F.elu(hidden), weight, linear.bias)
            jacobian = jacobian + torch.eye(x.shape[1], dtype=jacobian.dtype, device=x.device)
            return at_least_float32(x) + hidden, torch.linalg.slogdet(jacobian).logabsdet  # its determinant is positive

    def inverse(self, z: Tensor) -> Tensor:
        """The fixed point of x = z - g(x), in float64. Raises ZooError if it is not finite.

        The last step moves x by at most 1e-12 of the largest |x| or 1; with the bound L it is then within L/(1 - L) times that.
        """
        with torch.autocast(z.device.type, enabled=False):
            weights = [weight.double() for weight in self.weights()]
            biases = [linear.bias.double() for linear in self.linears]
            x = target = z.double()
            for _ in range(math.ceil(math.log(CONVERGED / 10) / math.log(self.lipschitz)) + 10):  # each step gains a factor of lipschitz
                hidden = x
                for weight, bias in zip(weights, biases, strict=True):
                    hidden = F.linear(F.elu(hidden), weight, bias)
                before, x = x, target - hidden
                if (x - before).abs().amax() <= CONVERGED * x.abs().amax().clamp_min(1):
                    return x.to(at_least_float32(z).dtype)
        raise ZooError("The inverse of the residual flow did not converge: its weights or its input are not finite; lower optimizer.lr.")

    def reset_parameters(self) -> None:
        """Fresh weights, with a last layer of 0: the identity."""
        for linear in self.linears:
            linear.reset_parameters()
        for parameter in self.linears[-1].parameters():
            nn.init.zeros_(parameter)


class ResidualFlow(LayeredFlow):
    """Invertible residual network: blocks of ActNorm and x + g(x), and a last ActNorm.

    Any number of dimensions works, but the exact log-determinant makes it slow, and its memory grows with batch · hidden · dim · blocks.

    Args:
        dim: Dimensions.
        blocks: Residual blocks.
        hidden: Width of the two hidden layers of each block.
        lipschitz: Bound of each block's Lipschitz constant, above 0 and below 1. Raises ZooError if it is not, or anything else is below 1.
    """

    def __init__(self, dim: int, blocks: int = 10, hidden: int = 64, lipschitz: float = 0.9) -> None:
        if not 0 < lipschitz < 1:
            raise ZooError(f"A residual flow is invertible for lipschitz between 0 and 1, not for {lipschitz}; use 0.9 or another one.")
        if dim < 1 or blocks < 1 or hidden < 1:
            raise ZooError(f"A residual flow of {blocks} blocks of width {hidden} over {dim} dimensions is empty; give at least 1 of each.")
        layers = [layer for _ in range(blocks) for layer in (ActNorm(dim), ResidualBlock(dim, hidden, lipschitz))]
        super().__init__([*layers, ActNorm(dim)])


def log_norm_bound(weight: Tensor) -> Tensor:
    """An upper bound of log of the spectral norm of (M, N), at most log(min(M, N))/512 above it; scalar.

    ‖W‖₂ <= ‖(WᵀW)^m‖_F^(1/2m), m = 2⁷, by repeated squaring (Gram iteration, 2305.16173). Costs 8 products of small matrices, no
    decomposition; has a gradient, and no state.
    """
    gram = weight.T @ weight if weight.shape[0] > weight.shape[1] else weight @ weight.T
    log_scale = weight.new_zeros(())
    for _ in range(SQUARINGS):
        norm = gram.norm().clamp_min(1e-30)
        gram, log_scale = (gram / norm) @ (gram / norm), 2 * (log_scale + norm.log())
    return (log_scale + gram.norm().clamp_min(1e-30).log()) / 2 ** (SQUARINGS + 1)
