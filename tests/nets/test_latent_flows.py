import math

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from zoo.errors import ZooError
from zoo.nets.latent_flows import CouplingFlow, ResidualFlow, log_norm_bound

KINDS = {
    "coupling": lambda dim=5: CouplingFlow(dim, transforms=4, hidden=16),
    "residual": lambda dim=5: ResidualFlow(dim, blocks=3, hidden=16),
}
everything = pytest.mark.parametrize("kind", KINDS)


def made(kind: str, scale: float = 0.5, seed: int = 0, **options) -> nn.Module:
    """A float64 flow that is far from the identity."""
    torch.manual_seed(seed)
    flow = KINDS[kind](**options).double()
    for parameter in flow.parameters():
        parameter.data += scale * torch.randn_like(parameter)
    return flow


@everything
def test_it_starts_as_the_identity(kind):
    x = torch.randn(6, 5)
    z, log_det = KINDS[kind]()(x)
    torch.testing.assert_close(z, x, rtol=0, atol=0)
    assert (log_det == 0).all()
    assert (made(kind).float()(x)[0] - x).abs().max() > 0.5


@torch.no_grad()
@pytest.mark.parametrize(("kind", "tolerance"), [("coupling", 1e-10), ("residual", 1e-8)])
@pytest.mark.parametrize("dim", [2, 5, 32])
def test_the_inverse_undoes_it(kind, tolerance, dim):
    flow, x = made(kind, 0.1, dim=dim), 2 * torch.randn(64, dim, dtype=torch.float64)
    z, _ = flow(x)
    assert (z - x).abs().max() > 0.1
    torch.testing.assert_close(flow.inverse(z), x, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(flow(flow.inverse(x))[0], x, rtol=tolerance, atol=tolerance)


@everything
def test_the_log_determinant_is_that_of_autograds_jacobian(kind):
    flow, x = made(kind), torch.randn(8, 5, dtype=torch.float64)
    z, log_det = flow(x)
    for row, image, value in zip(x, z, log_det, strict=True):
        matrix = jacobian(lambda point: flow(point[None])[0][0], row)
        torch.testing.assert_close(value, torch.linalg.slogdet(matrix).logabsdet, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(flow(row[None])[0][0], image, rtol=1e-12, atol=1e-12)  # rows do not depend on each other
    assert log_det.std() > 0.01


@everything
def test_gradients_are_those_of_finite_differences_and_reach_every_parameter(kind):
    flow, x = made(kind), torch.randn(8, 5, dtype=torch.float64)

    def nll() -> torch.Tensor:
        z, log_det = flow(x)
        return (0.5 * z.square().sum(1) - log_det).mean()

    nll().backward()
    for parameter in flow.parameters():
        slope, direction = parameter.grad, torch.randn_like(parameter)
        assert slope.abs().sum() > 0
        with torch.no_grad():
            parameter += 1e-6 * direction
            above = nll()
            parameter -= 2e-6 * direction
            measured = (above - nll()) / 2e-6
            parameter += 1e-6 * direction
        torch.testing.assert_close((slope * direction).sum(), measured, rtol=1e-5, atol=1e-7)


@everything
def test_it_computes_in_float32_under_autocast_and_compiles_without_a_break(kind):
    torch.compiler.reset()
    flow, x = made(kind).float(), torch.randn(6, 5)
    z, log_det = flow(x)
    with torch.autocast("cpu", torch.bfloat16):
        inside = flow(x)
        back = flow.inverse(z)
    assert torch.equal(inside[0], z)
    assert torch.equal(inside[1], log_det)
    assert torch.equal(back, flow.inverse(z))
    compiled = torch.compile(flow, fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(compiled, (z, log_det))


@everything
def test_a_rebuilt_net_with_loaded_weights_is_the_same_map(kind):
    flow, x = made(kind).float(), torch.randn(6, 5)
    torch.manual_seed(99)
    rebuilt = KINDS[kind]()
    rebuilt.load_state_dict(flow.state_dict())
    assert torch.equal(rebuilt(x)[0], flow(x)[0])
    assert torch.equal(rebuilt.inverse(x), flow.inverse(x))


@everything
def test_a_reset_draws_fresh_weights_of_the_identity(kind):
    flow, x = made(kind).float(), torch.randn(100, 5)
    flow.initialize(x)
    torch.manual_seed(3)
    flow.reset_parameters()
    fresh = made(kind, seed=1).float()
    torch.manual_seed(3)
    fresh.reset_parameters()
    assert all(torch.equal(one, other) for one, other in zip(flow.state_dict().values(), fresh.state_dict().values(), strict=True))
    assert torch.equal(flow(x)[0], x)


def test_every_dimension_of_a_coupling_flow_moves_and_halves_are_the_same_in_every_net():
    torch.manual_seed(1)
    flow, other = made("coupling", dim=7), made("coupling", dim=7, seed=2)
    stays = [layer.coupling.mask for layer in flow.layers]
    assert all(torch.equal(mask, layer.coupling.mask) for mask, layer in zip(stays, other.layers, strict=True))
    assert all(torch.equal(first, ~second) for first, second in zip(stays[::2], stays[1::2], strict=True))
    x = torch.randn(9, 7, dtype=torch.float64)
    for layer in flow.layers:
        moved = (layer(x)[0] != x).any(0)
        assert torch.equal(moved, ~layer.coupling.mask)


def test_the_slope_of_a_coupling_is_bounded_however_large_its_weights():
    flow = made("coupling", 100.0)
    for layer in flow.layers:
        _, log_det = layer(torch.randn(50, 5, dtype=torch.float64))
        assert 2 < log_det.abs().max() / layer.parts[1] <= math.log(20)  # per dimension that moves


@pytest.mark.parametrize("shape", [(5, 16), (16, 16), (40, 3), (1, 1)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_bound_of_the_norm_lies_just_above_the_largest_singular_value(shape, scale):
    torch.manual_seed(0)
    weight = scale * torch.randn(shape)
    ratio = log_norm_bound(weight).double() - torch.linalg.svdvals(weight.double())[0].log()
    assert -1e-6 <= ratio <= math.log(min(shape)) / 512 + 1e-6


@pytest.mark.parametrize("lipschitz", [0.5, 0.97])
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_blocks_contract_however_large_their_weights(lipschitz, size):
    """Also where weights are as bad as can be: all of norm far above the bound, and points everywhere."""
    torch.manual_seed(0)
    flow = ResidualFlow(4, blocks=2, hidden=16, lipschitz=lipschitz)
    for parameter in flow.parameters():
        parameter.data = size * torch.randn_like(parameter)
    x = torch.randn(200, 4, dtype=torch.float64) * torch.logspace(-2, 2, 200)[:, None]
    for block in list(flow.double().layers)[1::2]:
        assert math.prod(torch.linalg.svdvals(weight)[0].item() for weight in block.weights()) < lipschitz
        g = jacobian(lambda points, block=block: block(points)[0].sum(0), x).movedim(1, 0) - torch.eye(4)  # (200, 4, 4)
        assert torch.linalg.svdvals(g)[:, 0].max() <= lipschitz
        torch.testing.assert_close(block.inverse(block(x)[0]), x, rtol=1e-7, atol=1e-7)


def test_a_residual_flow_starts_each_block_from_standardised_values():
    torch.manual_seed(0)
    flow, x = made("residual"), 5 + 3 * torch.randn(2000, 5, dtype=torch.float64)
    z = flow.initialize(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-6)
    assert torch.equal(flow(x)[0], z)


def test_an_inverse_that_does_not_converge_is_refused():
    flow = made("residual")
    with pytest.raises(ZooError, match="did not converge"):
        flow.inverse(torch.full((2, 5), torch.nan))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: CouplingFlow(1), "there is 1; raise model.latent_dim"),
        (lambda: CouplingFlow(4, transforms=1), "at least 2 transforms"),
        (lambda: ResidualFlow(4, lipschitz=1.0), "between 0 and 1, not for 1.0; use 0.9"),
        (lambda: ResidualFlow(4, lipschitz=0), "between 0 and 1, not for 0"),
        (lambda: ResidualFlow(4, blocks=0), "0 blocks"),
    ],
)
def test_bad_sizes_are_refused(make, sentence):
    with pytest.raises(ZooError, match=sentence):
        make()
