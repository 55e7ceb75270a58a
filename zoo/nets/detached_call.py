"""Calling a net as a constant: gradients pass through it to its input, and none, or only a share, reaches its parameters."""

from typing import Any

from torch import nn
from torch.func import functional_call


def call_with_detached_params(net: nn.Module, *inputs: Any, share: float = 0.0, observe: bool = False) -> Any:
    """`net(*inputs)` with parameters that receive only `share` of their gradient; the inputs receive all of theirs.

    Its buffers are cloned, as a net that only judges must not touch BatchNorm's statistics; with `observe` these count the inputs.
    """
    tensors = {name: parameter.detach() for name, parameter in net.named_parameters()}
    if share:  # the same values
        tensors = {name: constant + share * (net.get_parameter(name) - constant) for name, constant in tensors.items()}
    if not observe:
        tensors |= {name: buffer.clone() for name, buffer in net.named_buffers()}
    return functional_call(net, tensors, inputs)
