"""A row of flow steps, and what it keeps for the backward pass: everything, each step's input, or its last output only.

"reversible" is the idea of RevNets (Gomez et al., 1707.04585): the backward pass rebuilds each step's input by inverting the step. A
coupling hands half of its channels through, so its net is evaluated once, for the inverse and for the gradient. Rebuilt inputs carry the
rounding of the inverse: gradients are exact in float64, in float32 as good as the flow is invertible, and under bf16 autocast as rough as
plain ones.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from zoo.nets.flows import Flow, Step, back_through, through


class Steps(Flow):
    """Steps one after the other; (B, C, H, W) <-> (B, C, H, W).

    `memory` is what the backward pass finds: "plain", everything; "checkpoint", each step's input, and computes the step again;
    "reversible", the output of the row (no second derivatives, no `functional_call`, not inside a compiled graph).
    """

    def __init__(self, steps: list[Step], memory: str = "plain") -> None:
        super().__init__()
        self.steps: Any = nn.ModuleList(steps)
        self.memory = memory

    def initialize(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step.initialize(x)
        return x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.memory if torch.is_grad_enabled() else "plain"
        if memory == "reversible":
            return Reversible.apply(list(self.steps), x, *self.parameters())
        if memory == "checkpoint":
            return through((partial(checkpoint, step, use_reentrant=False, preserve_rng_state=False) for step in self.steps), x)
        return through(self.steps, x)

    def inverse(self, z: Tensor) -> Tensor:
        return back_through(self.steps, z)


class Reversible(torch.autograd.Function):
    """Steps as one function of their input and parameters that saves nothing but its output."""

    @staticmethod
    def forward(ctx: Any, steps: list[Step], x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        kind = x.device.type
        ctx.steps, ctx.parameters = steps, parameters
        ctx.autocast = {"device_type": kind, "enabled": torch.is_autocast_enabled(kind), "dtype": torch.get_autocast_dtype(kind)}
        x, total = through(steps, x)
        ctx.save_for_backward(x, *parameters)  # saved parameters are watched: one changed before the backward pass is an error
        return x, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_z: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        z = ctx.saved_tensors[0]
        own = [parameter for step in ctx.steps for parameter in step.parameters()]
        if any(now is not then for now, then in zip(own, ctx.parameters, strict=True)):
            raise RuntimeError("memory='reversible' does not work under functional_call: it needs the modules' own parameters.")
        gradients: dict[Tensor, Tensor] = {}
        for step in reversed(ctx.steps):
            z, grad_z, found = rewind(step, z, grad_z, grad_log_det, ctx.autocast)
            gradients |= found
        return None, grad_z if ctx.needs_input_grad[1] else None, *map(gradients.get, ctx.parameters)


def rewind(
    step: Step, z: Tensor, grad_z: Tensor, grad_log_det: Tensor, autocast: dict[str, Any]
) -> tuple[Tensor, Tensor, dict[Tensor, Tensor]]:
    """Undoes one step with output z (B, C, H, W) and log_det (B,): its input x, the gradient of the loss by x, and those by its parameters.

    `autocast` is what the step ran in. Only the net is in need of it; around `backward` it would make gradients bf16 that are float32.
    """
    coupling = step.coupling
    z1, z2 = z.chunk(2, 1)  # (B, C/2, H, W) each
    grad_z1, grad_z2 = grad_z.chunk(2, 1)
    y1 = z1.detach().requires_grad_()
    with torch.enable_grad(), torch.autocast(**autocast, cache_enabled=False):
        h = coupling.net(y1)
    y2 = coupling.move_back(z2, h.detach()).requires_grad_()
    with torch.enable_grad():
        outputs = coupling.move(y2, h)
    weights = trained(coupling)
    (grad_y1, grad_y2), found = backward(outputs, (grad_z2, grad_log_det), (y1, y2), weights)

    x = step.mix_back(torch.cat([z1, y2.detach()], 1)).requires_grad_()
    with torch.enable_grad():
        outputs = step.mix(x)
    grad_y = torch.cat([grad_z1 + grad_y1, grad_y2], 1)
    (grad_x,), of_mixing = backward(outputs, (grad_y, grad_log_det), (x,), [*trained(step.actnorm), *trained(step.mixing)])
    return x.detach(), grad_x, found | of_mixing


def trained(module: nn.Module) -> list[Tensor]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def backward(
    outputs: Iterable[Tensor], gradients: Iterable[Tensor], inputs: tuple[Tensor, ...], parameters: list[Tensor]
) -> tuple[tuple[Tensor, ...], dict[Tensor, Tensor]]:
    """Gradients by the inputs, and by the parameters."""
    # A log-determinant that is a constant has no gradient to pass on.
    pairs = [(output, gradient) for output, gradient in zip(outputs, gradients, strict=True) if output.requires_grad]
    found = torch.autograd.grad([output for output, _ in pairs], (*inputs, *parameters), [gradient for _, gradient in pairs])
    return found[: len(inputs)], dict(zip(parameters, found[len(inputs) :], strict=True))
