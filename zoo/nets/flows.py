"""Layers of image flows: Glow (Kingma & Dhariwal, 1807.03039) and the flow of f-VAE (Su & Wu, 1809.05861).

Every layer maps (B, C, H, W) to (z, log_det), log_det = log|det dz/dx| in nats per image. Apart from the convolutions of couplings and
splits, which may run in bf16 under autocast, all arithmetic is in float32 at least: a flow's inverse and likelihood do not survive less.

Differs from Glow's code: 1×1 convolutions are LU-decomposed (§3.2 of the paper; no determinant is computed), scales have no learning-rate
factor of 3, the coupling's hidden convolutions have no ActNorm, and images are channels_last inside, which its convolutions prefer.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError
from zoo.losses import at_least_float32
from zoo.nets.described import Described

CHUNK = 32  # images that `initialize` passes through a layer at once: it sees up to 1,024, more than training ever holds


class Flow(Described, nn.Module, ABC):
    """An invertible map with a tractable Jacobian."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z and log|det dz/dx|: (B, ...) -> (B, ...), (B,) in nats per image, float32 at least."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """x with forward(x)[0] = z: (B, ...) -> (B, ...)."""

    def initialize(self, x: Tensor) -> Tensor:
        """Sets data-dependent parameters from x (B, ...), and returns z. Call it without gradients."""
        return torch.cat([self(part)[0] for part in x.split(CHUNK)])

    def first_not_finite(self, x: Tensor) -> str:
        """The first layer that gives something not finite for x (B, ...), as "layer 3 of 8"; "" if none does, or nobody knows."""
        return ""


def log_likelihood(flow: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """log N(z; 0, I) + log|det dz/dx| in nats, of a flow to flat z: (B, ...) -> (B,)."""
    z, log_det = flow(x)
    return log_det - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)


def through(layers: Iterable[Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """x through all layers, and the sum of their log-determinants (B,)."""
    total = torch.zeros((), device=x.device)
    for layer in layers:
        x, log_det = layer(x)
        total = total + log_det
    return x, total


def back_through(layers: Any, z: Tensor) -> Tensor:
    """z back through all layers."""
    for layer in reversed(layers):
        z = layer.inverse(z)
    return z


def finite(*tensors: Tensor) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def no_log_det(x: Tensor) -> Tensor:
    """The log-determinant of a map that preserves volume: zeros (B,)."""
    return torch.zeros(len(x), device=x.device, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)


def pixels(x: Tensor) -> int:
    """How often a parameter per channel (or per feature) acts on an image: H·W of (B, C, H, W), 1 of (B, D)."""
    return x[0, 0].numel()


def mix_channels(x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """A matrix (C, C) times each pixel's channels of (B, C, H, W): a 1×1 convolution as one matrix product.

    Without autocast, and without the TF32 that torch allows convolutions, but not matrix products, on GPUs.
    """
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(at_least_float32(x).permute(0, 2, 3, 1), matrix, bias).permute(0, 3, 1, 2)  # (B, C, H, W), channels_last


class ActNorm(Flow):
    """z = (x + shift) · exp(log_scale), per channel of (B, C, H, W) or per feature of (B, D); the identity until it is initialised."""

    initialized: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialized", torch.tensor(False))

    def initialize(self, x: Tensor) -> Tensor:
        """Gives z mean 0 and standard deviation 1 over x, once: a second call, also after loading a state, changes nothing.

        Channels of a standard deviation below 0.001 (8-bit noise of ± half a grey level has 0.002 on [-1, 1]) count as constant and keep
        that scale: else what little they vary elsewhere would be blown up without limit.
        """
        if not self.initialized:
            deviation, mean = torch.std_mean(at_least_float32(x).transpose(0, 1).flatten(1), 1, correction=0)  # (C,)
            self.shift.data.copy_(-mean)
            self.log_scale.data.copy_(-deviation.clamp_min(1e-3).log())
            self.initialized.fill_(True)
        return self(x)[0]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self.shaped(x)
        log_det = pixels(x) * self.log_scale.sum()
        return (at_least_float32(x) + shift) * log_scale.exp(), log_det.expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        shift, log_scale = self.shaped(z)
        return at_least_float32(z) * (-log_scale).exp() - shift

    def shaped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """shift and log_scale, to be broadcast over x."""
        shape = (-1, *(1,) * (x.dim() - 2))  # (C, 1, 1) or (D,)
        return self.shift.view(shape), self.log_scale.view(shape)

    def reset_parameters(self) -> None:
        """Back to the identity, to be initialised again."""
        nn.init.zeros_(self.shift)
        nn.init.zeros_(self.log_scale)
        self.initialized.fill_(False)


class InvertibleConv(Flow):
    """A learned rotation of the channels, W = P·L·(U + diag(s)), equation 10 of Glow; P, a permutation, and the signs of s are fixed."""

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        scale = upper.diagonal()
        packed = lower.tril(-1) + upper.triu(1) + scale.abs().log().diag()
        self.lu = nn.Parameter(packed.float())  # (C, C): L below the diagonal, log|s| on it, U above
        self.register_buffer("sign", scale.sign().float())  # (C,)
        self.register_buffer("permutation", permutation.float())  # (C, C): a product with it costs less than indexing and its gradient

    def factors(self, lu: Tensor) -> tuple[Tensor, Tensor]:
        """L - I and U + diag(s), (C, C) each."""
        return lu.tril(-1), lu.triu(1) + (self.sign.to(lu) * lu.diagonal().exp()).diag()

    def matrix(self) -> Tensor:
        """W, (C, C), in float32 at least."""
        with torch.autocast(self.lu.device.type, enabled=False):
            lower, upper = self.factors(self.lu)
            return self.permutation @ torch.addmm(upper, lower, upper)

    def inverse_matrix(self) -> Tensor:
        """W⁻¹ = (U + diag(s))⁻¹·L⁻¹·Pᵀ, (C, C), in float64."""
        lower, upper = self.factors(self.lu.double())
        inner = torch.linalg.solve_triangular(lower, self.permutation.double().T, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, inner, upper=True)

    def log_scale(self) -> Tensor:
        """log|det W|, scalar."""
        return self.lu.diagonal().sum()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return mix_channels(x, self.matrix()), (pixels(x) * self.log_scale()).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return mix_channels(z, self.inverse_matrix().to(at_least_float32(z).dtype))


class Permutation(Flow):
    """A fixed random permutation of the channels, as in f-VAE."""

    order: Tensor
    back: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(channels))
        self.register_buffer("back", self.order.argsort())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return permuted(x, self.order), no_log_det(x)

    def inverse(self, z: Tensor) -> Tensor:
        return permuted(z, self.back)


def permuted(x: Tensor, order: Tensor) -> Tensor:
    """Channels in another order. Unlike that of indexing, the gradient of index_select sorts nothing; what is channels_last stays so."""
    return x.permute(0, 2, 3, 1).index_select(3, order).permute(0, 3, 1, 2)


class Coupling(Flow):
    """z1 = x1, z2 = (x2 + shift(x1)) · s(x1): the first half of the channels moves and scales the second; §3.3 of Glow.

    The net is 3×3, 1×1, 3×3 convolutions with ReLU; its last layer starts at zero.

    Args:
        channels: C, even.
        width: Channels of the net's hidden layers.
        affine: False fixes s = 1 (additive coupling).
        scale: "sigmoid", s = sigmoid(h + 2) < 1 as in Glow's code (the paper's exp(h) diverges), or "tanh", log s = 2·tanh(h/2).
    """

    def __init__(self, channels: int, width: int, affine: bool = True, scale: str = "sigmoid") -> None:
        super().__init__()
        if channels % 2:
            raise ZooError(f"A coupling cannot halve {channels} channels; their number must be even.")
        if scale not in ("sigmoid", "tanh"):
            raise ZooError(f"The scale of a coupling is '{scale}'; it must be 'sigmoid' or 'tanh'.")
        half = channels // 2
        first, middle = nn.Conv2d(half, width, 3, padding=1), nn.Conv2d(width, width, 1)
        last = zero_conv(width, channels if affine else half)
        self.net = nn.Sequential(channels_last(first), nn.ReLU(inplace=True), middle, nn.ReLU(inplace=True), last)
        self.affine, self.scale = affine, scale

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x1, x2 = x.chunk(2, 1)  # (B, C/2, H, W) each
        z2, log_det = self.move(x2, self.net(x1))
        return torch.cat([x1, z2], 1), log_det

    def inverse(self, z: Tensor) -> Tensor:
        z1, z2 = z.chunk(2, 1)
        return torch.cat([z1, self.move_back(z2, self.net(z1))], 1)

    def move(self, x2: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """z2 (B, C/2, H, W) and log_det (B,) of x2 and the net's output h."""
        if not self.affine:
            return at_least_float32(x2) + at_least_float32(h), no_log_det(x2)
        shift, log_s = self.shift_and_log_scale(h)
        return (at_least_float32(x2) + shift) * log_s.exp(), log_s.sum((1, 2, 3))

    def move_back(self, z2: Tensor, h: Tensor) -> Tensor:
        """x2 of z2 and the net's output h."""
        if not self.affine:
            return at_least_float32(z2) - at_least_float32(h)
        shift, log_s = self.shift_and_log_scale(h)
        return at_least_float32(z2) * (-log_s).exp() - shift

    def shift_and_log_scale(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> (B, C/2, H, W) × 2, float32 at least."""
        shift, h = at_least_float32(h).chunk(2, 1)
        return shift, F.logsigmoid(h + 2) if self.scale == "sigmoid" else 2 * (h / 2).tanh()


class Split(nn.Module):
    """Where half of the channels leaves the flow, standardised by what is expected of them given the half that stays.

    x2' = (x2 - mean(x1)) · exp(-log_scale(x1)): with x2' ~ N(0, I) this is Glow's learned prior of x2 given x1 (f-VAE: CondActnorm),
    written as a bijection. One 3×3 convolution, zero at the start; |log_scale| < 5. C must be even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % 2:
            raise ZooError(f"A flow cannot split {channels} channels in half; let it squeeze before.")
        self.net = zero_conv(channels // 2, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x1, x2' and log_det: (B, C, H, W) -> (B, C/2, H, W) × 2, (B,)."""
        x1, x2 = x.chunk(2, 1)
        mean, log_scale = self.expected(x1)
        return x1, (at_least_float32(x2) - mean) * (-log_scale).exp(), -log_scale.sum((1, 2, 3))

    def inverse(self, x1: Tensor, z2: Tensor) -> Tensor:
        """x of x1 and x2'."""
        mean, log_scale = self.expected(x1)
        return torch.cat([x1, at_least_float32(z2) * log_scale.exp() + mean], 1)

    def expected(self, x1: Tensor) -> tuple[Tensor, Tensor]:
        mean, h = at_least_float32(self.net(x1)).chunk(2, 1)
        return mean, 5 * (h / 5).tanh()


class Step(Flow):
    """One step of flow (figure 2a of Glow): ActNorm, an InvertibleConv or without `conv` a Permutation, and a Coupling."""

    def __init__(self, channels: int, width: int, affine: bool = True, scale: str = "sigmoid", conv: bool = True) -> None:
        super().__init__()
        self.actnorm = ActNorm(channels)
        self.mixing = InvertibleConv(channels) if conv else Permutation(channels)
        self.coupling = Coupling(channels, width, affine, scale)

    def initialize(self, x: Tensor) -> Tensor:
        return self.coupling.initialize(self.mixing.initialize(self.actnorm.initialize(x)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = self.mix(x)
        z, more = self.coupling(y)
        return z, log_det + more

    def inverse(self, z: Tensor) -> Tensor:
        return self.mix_back(self.coupling.inverse(z))

    def mix(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """ActNorm and mixing. With an InvertibleConv both are one affine map of the channels, W·diag(s)·x + W·diag(s)·shift."""
        if not isinstance(self.mixing, InvertibleConv):
            y, log_det = self.actnorm(x)
            return self.mixing(y)[0], log_det
        with torch.autocast(x.device.type, enabled=False):
            matrix = self.mixing.matrix() * self.actnorm.log_scale.exp()
            log_det = pixels(x) * (self.actnorm.log_scale.sum() + self.mixing.log_scale())
            return mix_channels(x, matrix, matrix @ self.actnorm.shift), log_det.expand(len(x))

    def mix_back(self, y: Tensor) -> Tensor:
        """The inverse of `mix`."""
        return self.actnorm.inverse(self.mixing.inverse(y))


def channels_last(conv: nn.Conv2d) -> nn.Conv2d:
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    return conv


def zero_conv(channels: int, out_channels: int) -> nn.Conv2d:
    """A 3×3 convolution that gives 0."""
    conv = channels_last(nn.Conv2d(channels, out_channels, 3, padding=1))
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
