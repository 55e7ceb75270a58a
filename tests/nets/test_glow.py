"""The multi-scale flow: a bijection with the Jacobian it claims, initialised layer by layer, that says which layer went wrong."""

import copy

import pytest
import torch
from torch import nn

from tests.nets.test_flows import images, log_det_by_autograd, moved
from zoo.errors import ZooError
from zoo.nets.flows import ActNorm, Coupling
from zoo.nets.glow import ImageFlow

KINDS = {
    "glow": {},
    "tanh": {"scale": "tanh"},
    "fvae": {"coupling": "additive", "permutation": "fixed", "actnorm": "zero", "squeeze_first": False},
}


def flow_of(kind="glow", shape=(2, 8, 4), levels=2, depth=2, width=8, **options):
    torch.manual_seed(0)
    return ImageFlow(shape, levels, depth, width, **KINDS[kind] | options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [1, 2])
def test_inverse_and_log_determinant(kind, levels):
    flow, x = moved(flow_of(kind, levels=levels).double()), images(2, (2, 8, 4))
    z, log_det = flow(x)
    assert z.shape == (2, 64)
    torch.testing.assert_close(flow.inverse(z), x, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_det, log_det_by_autograd(lambda image: flow(image)[0], x), rtol=0, atol=1e-10)
    assert log_det.abs().min() > 0.1


def test_squeezing_moves_blocks_of_pixels_into_channels():
    x = images(2, (4, 4, 6))
    z = flow_of(shape=(4, 4, 6), levels=1).squeezed(x, 0)
    assert z.shape == (2, 16, 2, 3)
    for c, i, j in [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]:
        assert torch.equal(z[:, 4 * c + 2 * i + j], x[:, c, i::2, j::2])


def test_three_levels_of_colour():
    """3 channels, and images that are not square: (12, 8, 4) -> (24, 4, 2) -> (48, 2, 1)."""
    flow, x = moved(flow_of(shape=(3, 16, 8), levels=3).double(), 0.05), images(2, (3, 16, 8))
    assert flow.shapes == [(6, 8, 4), (12, 4, 2), (48, 2, 1)]
    torch.testing.assert_close(flow.inverse(flow(x)[0]), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_receives_a_gradient(kind):
    flow = moved(flow_of(kind).double())
    z, log_det = flow(images(2, (2, 8, 4)))
    (z.pow(3).sum() + log_det.sum()).backward()
    assert [name for name, p in flow.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_order_of_the_latents():
    """Level by level, what leaves first comes first: only the first part is untouched by the second level."""
    flow, x = moved(flow_of("glow").double()), images(2, (2, 8, 4))
    before = flow(x)[0]
    with torch.no_grad():
        flow.levels[1].steps[0].actnorm.shift += 1
    after = flow(x)[0]
    first = 4 * 4 * 2  # of 8 channels 4 leave at 4×2 pixels
    assert torch.equal(after[:, :first], before[:, :first])
    assert (after[:, first:] != before[:, first:]).any(0).all()


def test_float32_and_autocast():
    """After initialisation, with nets that do something.

    Measured: inverse 1.3e-6 and, under autocast, 8e-4: there a value rebuilt a little differently may be rounded to the next bf16 number
    before it enters a net. Log-determinants 1.5e-7 and 9e-6.
    """
    flow = flow_of(shape=(3, 16, 16), levels=3, depth=4, width=16)
    for layer in flow.modules():
        if isinstance(layer, Coupling):
            nn.init.normal_(layer.net[-1].weight, std=0.05)
    x = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.no_grad():
        flow.initialize(x)
        exact = copy.deepcopy(flow).double()(x.double())[1]
        for mixed in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                z, log_det = flow(x)
                back = flow.inverse(z)
            assert z.dtype == log_det.dtype == back.dtype == torch.float32
            torch.testing.assert_close(back, x, rtol=0, atol=1e-2 if mixed else 1e-5)
            torch.testing.assert_close(log_det.double(), exact, rtol=1e-3 if mixed else 1e-5, atol=0)


def seen_by_actnorms(flow, x):
    """What each ActNorm of a flow gives for x, found layer by layer."""
    found = []
    for layer in flow.modules():
        if isinstance(layer, ActNorm):
            layer.register_forward_hook(lambda layer, inputs, outputs: found.append(outputs[0]))
    assert flow.first_not_finite(x) == ""  # calls every layer on its own
    return found


def test_initialisation_passes_through_all_layers():
    flow, x = flow_of(), 1 + 2 * images(70, (2, 8, 4)).float()
    with torch.no_grad():
        for layer in flow.modules():
            if isinstance(layer, Coupling):
                nn.init.normal_(layer.net[-1].weight, std=0.1)
        twin = copy.deepcopy(flow)
        z = flow.initialize(x)
        torch.testing.assert_close(flow(x)[0], z, rtol=0, atol=1e-4)
        outputs = seen_by_actnorms(copy.deepcopy(flow), x)
        assert len(outputs) == 5
        for output in outputs:
            torch.testing.assert_close(output.mean((0, 2, 3)), torch.zeros(output.shape[1]), rtol=0, atol=1e-4)
            torch.testing.assert_close(output.std((0, 2, 3), correction=0), torch.ones(output.shape[1]), rtol=1e-4, atol=0)

        twin.initialize(x)  # as another rank
        for one, other in zip(flow.state_dict().values(), twin.state_dict().values(), strict=True):
            assert torch.equal(one, other)
        resumed = flow_of()
        resumed.load_state_dict(flow.state_dict())
        torch.testing.assert_close(resumed.initialize(3 * x - 1), flow(3 * x - 1)[0], rtol=0, atol=1e-3)
        for one, other in zip(flow.state_dict().values(), resumed.state_dict().values(), strict=True):
            assert torch.equal(one, other)


def test_actnorms_that_start_at_zero_are_left_alone():
    flow, x = flow_of(actnorm="zero"), 5 * images(40, (2, 8, 4)).float()
    with torch.no_grad():
        z = flow.initialize(x)
        torch.testing.assert_close(z, flow(x)[0])
    assert not any(layer.shift.any() or layer.log_scale.any() for layer in flow.modules() if isinstance(layer, ActNorm))


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (lambda flow: flow.levels[0].steps[0].actnorm.log_scale, "level 1, step 1 of 3, ActNorm"),
        (lambda flow: flow.levels[0].steps[1].mixing.lu, "level 1, step 2 of 3, 1×1 convolution"),
        (lambda flow: flow.levels[1].steps[2].coupling.net[4].bias, "level 2, step 3 of 3, coupling"),
        (lambda flow: flow.splits[0].net.bias, "level 1, split"),
        (lambda flow: flow.last.shift, "the last ActNorm"),
    ],
)
def test_the_first_layer_that_is_not_finite_is_named(place, sentence):
    flow, x = flow_of(depth=3), images(2, (2, 8, 4)).float()
    assert flow.first_not_finite(x) == ""
    with torch.no_grad():
        place(flow)[0] = float("nan")
    assert flow.first_not_finite(x) == sentence
    assert flow.first_not_finite(x / 0) == "the input"


def test_a_log_determinant_that_is_not_finite_counts():
    """A scale of exp(-inf) gives finite values."""
    flow = flow_of()
    with torch.no_grad():
        flow.last.log_scale[0] = float("-inf")
    assert flow.first_not_finite(images(2, (2, 8, 4)).float()) == "the last ActNorm"


@pytest.mark.parametrize(("kind", "memory"), [("glow", "checkpoint"), ("fvae", "plain")])
def test_compiles_as_one_graph(kind, memory):
    """Under autocast, which the graph leaves and enters again. bf16 is rounded in other places: 2 % of the largest gradient."""
    flow, x = moved(flow_of(kind, depth=1, memory=memory)), images(2, (2, 8, 4)).float()

    def gradients(call):
        flow.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            z, log_det = call(x)
        (z.square().sum() - log_det.sum()).backward()
        return [p.grad.clone() for p in flow.parameters()]

    compiled = torch.compile(flow, fullgraph=True, backend="aot_eager")
    for one, other in zip(gradients(compiled), gradients(flow), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.02 * other.abs().max().item())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"levels": 4}, r"halve 8×4 pixels 4 times; set model.flow.levels=null"),
        ({"levels": 4, "squeeze_first": False}, "halve 8×4 pixels 3 times"),
        ({"shape": (3, 8, 4), "squeeze_first": False}, "3 channels"),
        ({"levels": 0}, "model.flow.levels is 0"),
        ({"memory": "lean"}, "model.flow.memory is 'lean'; it must be 'plain' or 'checkpoint' or 'reversible'"),
    ],
)
def test_what_cannot_be_built_is_refused(options, sentence):
    with pytest.raises(ZooError, match=sentence):
        flow_of(**options)
