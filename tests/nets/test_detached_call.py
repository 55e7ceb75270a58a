import copy

import pytest
import torch
from torch import nn

from zoo.nets.discriminator import call_with_detached_params


@pytest.fixture
def net() -> nn.Module:
    """With BatchNorm in a nested module."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Sequential(nn.BatchNorm1d(5), nn.Tanh()), nn.Linear(5, 4)).double()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)


@pytest.mark.parametrize("training", [True, False])
def test_it_gives_what_the_net_gives_and_the_same_gradient_to_the_input(net, image, training):
    twin = copy.deepcopy(net).train(training)
    own, plain = call_with_detached_params(net.train(training), image), twin(image)
    torch.testing.assert_close(own, plain, rtol=1e-14, atol=1e-14)
    weight = torch.randn_like(plain)
    torch.testing.assert_close(*(torch.autograd.grad((output * weight).sum(), image)[0] for output in (own, plain)), rtol=1e-13, atol=1e-13)


def test_no_gradient_reaches_its_parameters_not_even_a_zero(net, image):
    call_with_detached_params(net, image).sum().backward()
    assert image.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not call_with_detached_params(net, image.detach()).requires_grad


def test_it_leaves_the_statistics_of_batchnorm_alone(net, image):
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    call_with_detached_params(net, image)
    assert before
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
    net(image)
    assert not any(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())


def test_it_follows_the_weights_of_the_net(net, image):
    net.eval()
    before = call_with_detached_params(net, image)
    with torch.no_grad():
        net[0].weight.add_(1.0)
    assert not torch.equal(call_with_detached_params(net, image), before)
    torch.testing.assert_close(call_with_detached_params(net, image), net(image))


def test_beside_an_ordinary_call_the_parameters_feel_that_call_alone(net, image):
    net.eval()
    parameters = [*net.parameters()]
    beside = torch.autograd.grad(net(image.detach()).square().sum() + call_with_detached_params(net, image).sum(), parameters)
    alone = torch.autograd.grad(net(image.detach()).square().sum(), parameters)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(beside, alone, strict=True))


def test_autocast_reaches_inside(net, image):
    """Under bf16 an ordinary call and a detached one round alike, in either order: autocast keeps casts of weights."""
    net = net.float().eval()
    image32 = image.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        detached_first, plain = call_with_detached_params(net, image32), net(image32)
        detached_last = call_with_detached_params(net, image32)
        gradient = torch.autograd.grad(plain.float().sum() + detached_last.float().sum(), [*net.parameters()])
    assert plain.dtype == torch.bfloat16
    assert torch.equal(detached_first, plain)
    assert torch.equal(detached_last, plain)
    assert all(part.abs().max() > 0 for part in gradient)
