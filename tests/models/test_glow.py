import math
from functools import partial

import pytest
import torch
from torch.distributions import Normal

from tests.models.flows import KEY, darkest, images, learn_sixteen_images, losses
from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.losses import bits_per_dim
from zoo.models.glow import Glow
from zoo.nets.glow import ImageFlow
from zoo.priors import StandardNormal
from zoo.runs.build import check_output_range

GREYS = torch.arange(256, dtype=torch.float64)


def glow(size: int = 4, channels: int = 1, flow: dict | None = None, wild: float = 0.1, **options) -> Glow:
    """A small flow in float64, its zeros moved by `wild`."""
    torch.manual_seed(0)
    model = Glow(size, channels, partial(ImageFlow, **{"levels": 2, "depth": 2, "width": 8} | (flow or {})), **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += wild * torch.randn_like(parameter)
    return model


def volume(function, point: torch.Tensor) -> torch.Tensor:
    """log|det| of the Jacobian of one image's map, by autograd."""
    jacobian = torch.autograd.functional.jacobian(lambda part: function(part[None])[0].flatten(), point)
    return torch.linalg.slogdet(jacobian.reshape(point.numel(), -1)).logabsdet


def test_the_loss_is_the_exact_likelihood_of_dequantised_images():
    model = glow()
    batch = images(model)
    model.set_batch_rng(KEY, 0, 4, 4)
    x = batch.image + model.uniform(*batch.image.shape) * 2 / 255
    z = model.flow(x)[0]
    density = Normal(0.0, 1.0).log_prob(z).sum(1) + torch.stack([volume(lambda part: model.flow(part)[0], part) for part in x])
    found = losses(model, batch)
    torch.testing.assert_close(found["loss"], -density.mean(), rtol=1e-10, atol=0)
    torch.testing.assert_close(model.log_weights(x, 7), density[:, None], rtol=1e-10, atol=0)
    torch.testing.assert_close(found["bits_per_dim"], bits_per_dim(-density, 16).mean(), rtol=1e-10, atol=0)


def test_the_likelihood_of_what_a_flow_draws_is_its_entropy():
    model = glow(flow={"coupling": "additive"})
    with torch.no_grad():
        for split in model.flow.splits:  # their scales depend on the image; without them all of the volume is constant
            for parameter in split.parameters():
                parameter.zero_()
    z = torch.randn(4000, 16, dtype=torch.float64)
    with torch.no_grad():
        nll = model.negative_log_likelihood(model.flow.inverse(z))
    of_noise = Normal(torch.tensor(0.0, dtype=torch.float64), 1.0).entropy() * 16
    expansion = volume(model.flow.inverse, torch.randn(16, dtype=torch.float64))  # the same everywhere
    assert abs(nll.mean() - (of_noise + expansion)) < 4 * nll.std() / math.sqrt(4000)


@pytest.mark.parametrize("n_bits", range(1, 9))
def test_bits_per_dim_of_a_flat_density_are_the_bits_of_a_value(n_bits):
    """p = 1 / (2^n bins of their width) everywhere: each of 2^n levels has the probability 2^-n."""
    model = glow(n_bits=n_bits)
    nats = 16 * torch.tensor(2**n_bits * model.bin).log()
    torch.testing.assert_close(bits_per_dim(nats, 16, n_bits), torch.tensor(float(n_bits)))
    assert math.isclose(2**n_bits * model.bin, 2 + 2 / 255)  # all grey levels, dequantised


@pytest.mark.parametrize("n_bits", [8, 5, 1])
def test_images_keep_their_highest_bits_and_lie_anywhere_in_their_bins(n_bits):
    model, width = glow(size=16, n_bits=n_bits), 2 ** (8 - n_bits)
    grey = GREYS.view(1, 1, 16, 16)
    image = grey / 127.5 - 1
    torch.testing.assert_close((model.floored(image) + 1) * 127.5, (grey / width).floor() * width)
    model.set_batch_rng(KEY, 0, 200, 200)
    noise = (model.dequantised(image.expand(200, -1, -1, -1)) - model.floored(image)) * 127.5 / width
    assert noise.min() > -1e-9
    assert noise.max() < 1 + 1e-9
    assert abs(noise.mean() - 0.5) < 0.01
    assert abs(noise.var() - 1 / 12) < 0.001


@pytest.mark.parametrize("n_bits", [8, 5])
def test_a_code_decodes_to_the_middle_of_its_grey_levels(n_bits):
    model, width = glow(size=16, n_bits=n_bits), 2 ** (8 - n_bits)
    grey = GREYS.view(1, 1, 16, 16)
    code = model.encode(grey / 127.5 - 1)
    assert code.shape == (1, 256)
    assert model.latent_dim == 256
    expected = grey.view(-1, width).mean(1, keepdim=True).expand(-1, width).reshape(grey.shape)
    torch.testing.assert_close((model.decode(code) + 1) * 127.5, expected, rtol=0, atol=1e-6)


def test_fewer_bits_define_no_likelihood_of_8_bit_images():
    model = glow(n_bits=5)
    assert model.log_weights(images(model).image, 1) is None


def test_samples_have_the_temperature_and_the_likelihood_does_not():
    cold, warm = glow(temperature=0.5), glow()
    batch = images(cold)
    draws = [model.sample(3, torch.Generator().manual_seed(2)) for model in (cold, warm)]
    noise = torch.randn(3, 16, generator=torch.Generator().manual_seed(2)).double()
    torch.testing.assert_close(draws[0], cold.flow.inverse(0.5 * noise) - 1 / 255)
    torch.testing.assert_close(draws[1], cold.flow.inverse(noise) - 1 / 255)
    assert torch.equal(losses(cold, batch)["loss"], losses(warm, batch)["loss"])
    torch.testing.assert_close(StandardNormal(16, 0.5).log_prob(noise), Normal(0.0, 0.5).log_prob(noise).sum(1))


def test_the_first_images_set_the_scales_whatever_was_drawn_before():
    states = []
    for seed in (1, 2):
        model = glow(wild=0.0)
        torch.manual_seed(seed)
        model.set_batch_rng((seed,), 2, 4, 8)  # as validation leaves it
        batch = images(model, 64)
        model.initialize(batch)
        states.append(model.flow.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    last = model.encode(batch.image)[:, -model.flow.last.shift.numel() :]
    assert abs(last.mean()) < 0.2
    assert abs(last.std() - 1) < 0.2


def test_every_parameter_has_a_gradient():
    model = glow(channels=3)
    losses(model, images(model))["loss"].backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_two_halves_of_a_batch_are_the_whole():
    model = glow()
    batch = images(model, 6)
    halves = [losses(model, Batch(*(part[rows : rows + 3] for part in batch)), rows, 6)["loss"] for rows in (0, 3)]
    torch.testing.assert_close(sum(halves) / 2, losses(model, batch)["loss"], rtol=1e-12, atol=0)


def test_the_likelihood_is_float32_under_autocast():
    model = glow(size=8).float()
    batch = images(model, 16)
    model.initialize(batch)
    plain = losses(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = losses(model, batch)
        log_det = model.flow(batch.image)[1]
    torch.testing.assert_close(log_det, model.flow(batch.image)[1], rtol=1e-3, atol=0)
    torch.testing.assert_close(mixed["loss"], plain["loss"], rtol=1e-2, atol=0)
    assert all(value.dtype == torch.float32 for value in mixed.values())


def test_the_loss_compiles_to_one_graph():
    model = glow(flow={"levels": 1, "depth": 1})
    batch, compiled = images(model), torch.compile(model.losses, fullgraph=True, backend="aot_eager")
    model.set_batch_rng(KEY, 0, 4, 4)
    torch.testing.assert_close(compiled(batch)["loss"], losses(model, batch)["loss"], rtol=1e-10, atol=0)


def test_locate_nonfinite_names_the_layer():
    model = glow()
    assert model.locate_nonfinite(images(model)) == ""
    model.flow.levels[1].steps[0].coupling.net[-1].bias.data[0] = math.nan
    assert model.locate_nonfinite(images(model)) == "level 2, step 1 of 2, coupling"


def test_it_learns_sixteen_images():
    torch.manual_seed(0)
    model = Glow(8, 1, partial(ImageFlow, levels=2, depth=2, width=16))
    smooth, bits = learn_sixteen_images(model, [{"params": model.parameters(), "lr": 5e-3}], 120)
    assert bits[-1] < bits[0] - 1.5
    torch.testing.assert_close(model.reconstruct(smooth), smooth, rtol=0, atol=1e-3)


def test_a_fresh_decoder_reaches_dark_pixels():
    """As a check at the start of training asks of it."""
    model = glow(wild=0.0)
    assert darkest(model) < -0.5
    check_output_range(model.float())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_bits": 0}, r"model\.n_bits=0 must be a whole number from 1 to 8"),
        ({"n_bits": 9}, r"model\.n_bits=9"),
        ({"n_bits": 5.5}, r"model\.n_bits=5\.5"),
        ({"temperature": 0}, "temperature .* is 0; it must be a positive number"),
        ({"temperature": "warm"}, "temperature .* is warm"),
        ({"size": 6}, r"model\.flow\.levels"),
    ],
)
def test_bad_settings_are_refused(options, sentence):
    with pytest.raises(ZooError, match=sentence):
        glow(**options)
