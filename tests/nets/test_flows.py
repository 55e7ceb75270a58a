"""Layers of image flows against Jacobians by autograd and formulas written out, in float64."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from zoo.errors import ZooError
from zoo.nets.flows import ActNorm, Coupling, InvertibleConv, Permutation, Split, Step

SHAPE = (4, 4, 6)  # channels, height, width
LAYERS = {
    "actnorm": lambda: ActNorm(4),
    "conv": lambda: InvertibleConv(4),
    "permutation": lambda: Permutation(4),
    "affine": lambda: Coupling(4, 8),
    "tanh": lambda: Coupling(4, 8, scale="tanh"),
    "additive": lambda: Coupling(4, 8, affine=False),
    "step": lambda: Step(4, 8),
    "fixed step": lambda: Step(4, 8, affine=False, conv=False),
}


def moved(module, far=0.2):
    """The module away from its start, where much of it is 0."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += far * torch.randn_like(parameter)
    return module


def layer_of(name):
    torch.manual_seed(1)
    return moved(LAYERS[name]().double())


def images(count=3, shape=SHAPE):
    return torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def log_det_by_autograd(function, x):
    """log|det| of the Jacobian for each image of x on its own."""
    matrices = [jacobian(lambda image: function(image[None])[0], image).reshape(image.numel(), -1) for image in x]
    return torch.linalg.slogdet(torch.stack(matrices))[1]


@pytest.mark.parametrize("name", LAYERS)
def test_inverse_and_log_determinant(name):
    layer, x = layer_of(name), images()
    z, log_det = layer(x)
    assert log_det.shape == (3,)
    torch.testing.assert_close(layer.inverse(z), x, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_det, log_det_by_autograd(lambda image: layer(image)[0], x), rtol=0, atol=1e-10)
    if name in ("permutation", "additive"):
        assert not log_det.any()
    else:
        assert log_det.abs().min() > 0.01


def test_actnorm_of_vectors():
    layer, x = moved(ActNorm(5).double()), torch.randn(3, 5, dtype=torch.float64)
    z, log_det = layer(x)
    torch.testing.assert_close(layer.inverse(z), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_det, log_det_by_autograd(lambda row: layer(row)[0], x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "permutation"])
def test_every_parameter_receives_a_gradient(name):
    layer = layer_of(name)
    z, log_det = layer(images())
    (z.pow(3).sum() + log_det.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters())


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("mixed", [False, True])
def test_inverse_in_float32_and_under_autocast(name, mixed):
    """Only the couplings' nets run in bf16, and in both directions on the same values: the inverse is as good as in float32."""
    layer, x = layer_of(name).float(), images(8).float()
    exact = layer.double()(x.double())[1]
    layer.float()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed), torch.no_grad():
        z, log_det = layer(x)
        back = layer.inverse(z)
    assert z.dtype == log_det.dtype == back.dtype == torch.float32
    torch.testing.assert_close(back, x, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_det.double(), exact, rtol=0, atol=(1e-3 if mixed else 1e-6) * x[0].numel())


def test_actnorm_is_initialised_once():
    x = 3 + torch.tensor([0.1, 1.0, 10.0, 100.0])[:, None, None] * images(40).float()
    layer = ActNorm(4)
    assert torch.equal(layer(x)[0], x)
    with torch.no_grad():
        z = layer.initialize(x)
        torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-5)
        torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(4))
        other = ActNorm(4)
        other.load_state_dict(layer.state_dict())
        for trained in (layer, other):
            assert torch.equal(trained.initialize(5 * x + 1), trained(5 * x + 1)[0])
            assert torch.equal(trained.shift, layer.shift)
            torch.testing.assert_close(trained(x)[0], z)


def test_actnorm_of_constant_channels_is_bounded():
    with torch.no_grad():
        x = images(40).float()
        x[:, 1] = -1.0
        layer = ActNorm(4)
        z = layer.initialize(x)
        assert z[:, 1].abs().max() == 0
        assert layer.log_scale.exp()[1] == pytest.approx(1000)
        dark = torch.full((8, 3), -1.0)  # of vectors
        assert ActNorm(3).initialize(dark).abs().max() == 0


def test_invertible_conv_starts_as_a_rotation_and_keeps_its_signs():
    torch.manual_seed(0)
    layer = InvertibleConv(12).double()
    matrix = layer.matrix()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-6)
    sign = torch.linalg.slogdet(matrix)[0]
    matrix = moved(layer).matrix()
    assert torch.linalg.slogdet(matrix)[0] == sign
    assert layer.log_scale().item() == pytest.approx(torch.linalg.slogdet(matrix)[1].item(), abs=1e-12)
    torch.testing.assert_close(layer.inverse_matrix() @ matrix, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-10)
    x = images(2, (12, 3, 5))
    torch.testing.assert_close(layer(x)[0], nn.functional.conv2d(x, matrix[:, :, None, None]))


def test_permutation_has_the_gradient_of_indexing():
    layer, x = Permutation(12), images(2, (12, 3, 5)).requires_grad_()
    assert torch.equal(layer(x)[0], x[:, layer.order])
    weight = images(2, (12, 3, 5)).flip(0)
    one, other = (torch.autograd.grad((z * weight).sum(), x)[0] for z in (layer(x)[0], x[:, layer.order]))
    assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["sigmoid", "tanh", "additive"])
def test_coupling_moves_the_second_half(kind):
    layer = moved(Coupling(4, 8, affine=kind != "additive", scale=kind if kind != "additive" else "sigmoid").double())
    x = images()
    h = layer.net(x[:, :2])
    z, log_det = layer(x)
    assert torch.equal(z[:, :2], x[:, :2])
    if kind == "additive":
        torch.testing.assert_close(z[:, 2:], x[:, 2:] + h)
        return
    scale = torch.sigmoid(h[:, 2:] + 2) if kind == "sigmoid" else torch.exp(2 * torch.tanh(h[:, 2:] / 2))
    torch.testing.assert_close(z[:, 2:], (x[:, 2:] + h[:, :2]) * scale)
    torch.testing.assert_close(log_det, scale.log().flatten(1).sum(1))


def test_coupling_starts_near_the_identity():
    x = images()
    assert torch.equal(Coupling(4, 8, affine=False).double()(x)[0], x)
    assert torch.equal(Coupling(4, 8, scale="tanh").double()(x)[0], x)
    torch.testing.assert_close(Coupling(4, 8).double()(x)[0][:, 2:], x[:, 2:] * torch.sigmoid(torch.tensor(2.0, dtype=torch.float64)))


def test_coupling_refuses_odd_channels_and_unknown_scales():
    with pytest.raises(ZooError, match="cannot halve 3 channels"):
        Coupling(3, 8)
    with pytest.raises(ZooError, match="'exp'"):
        Coupling(4, 8, scale="exp")


def test_split_is_a_conditional_gaussian():
    """N(x2'; 0, I) + log_det = log N(x2; mean(x1), scale(x1))."""
    split, x = moved(Split(4).double()), images()
    x1, z2, log_det = split(x)
    assert torch.equal(x1, x[:, :2])
    torch.testing.assert_close(split.inverse(x1, z2), x, rtol=0, atol=1e-12)
    mean, log_scale = split.net(x1).chunk(2, 1)
    expected = torch.distributions.Normal(mean, (5 * torch.tanh(log_scale / 5)).exp()).log_prob(x[:, 2:])
    standard = torch.distributions.Normal(torch.zeros_like(z2), 1).log_prob(z2)
    torch.testing.assert_close(standard.flatten(1).sum(1) + log_det, expected.flatten(1).sum(1))
    assert torch.equal(Split(4).double()(x)[1], x[:, 2:])  # at the start
    (z2.pow(3).sum() + log_det.sum()).backward()
    assert all(p.grad.abs().max() > 0 for p in split.parameters())


@pytest.mark.parametrize("conv", [True, False])
def test_a_step_equals_its_layers_one_by_one(conv):
    step, x = moved(Step(4, 8, conv=conv).double()), images()
    z, total = x, torch.zeros(3, dtype=torch.float64)
    for layer in (step.actnorm, step.mixing, step.coupling):
        z, log_det = layer(z)
        total = total + log_det
    torch.testing.assert_close(step(x), (z, total))


def test_a_step_initialises_on_all_images_and_equals_on_every_rank():
    """80 images are more than pass through a net at once."""
    torch.manual_seed(0)
    step = Step(4, 8)
    nn.init.normal_(step.coupling.net[-1].weight, std=0.1)
    twin, x = copy.deepcopy(step), 2 + 3 * images(80).float()
    with torch.no_grad():
        z = step.initialize(x)
        torch.testing.assert_close(z, step(x)[0], rtol=0, atol=1e-4)
        torch.testing.assert_close(step.actnorm(x)[0].std((0, 2, 3), correction=0), torch.ones(4))
        assert torch.equal(twin.initialize(x), z)
    for one, other in zip(step.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)
