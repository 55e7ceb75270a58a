"""Calling a net as a constant: gradients pass through it to its input, and none reaches its parameters."""

from typing import Any

from torch import nn
from torch.func import functional_call


def frozen(net: nn.Module, *inputs: Any) -> Any:
    """`net(*inputs)` with detached parameters. Its buffers are cloned: a net that only judges must not touch BatchNorm's statistics."""
    constants = {name: parameter.detach() for name, parameter in net.named_parameters()}
    constants |= {name: buffer.clone() for name, buffer in net.named_buffers()}
    return functional_call(net, constants, inputs)
