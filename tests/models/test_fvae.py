"""f-VAE: its bound written out with torch's distributions and autograd's Jacobian, and the two ends of the family."""

import math
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn
from torch.distributions import Normal, kl_divergence

from tests.models.flows import KEY, darkest, images, learn_sixteen_images, losses
from zoo.batch import Batch
from zoo.config.check import check
from zoo.config.instantiate import conf_dir
from zoo.errors import ZooError
from zoo.losses import bits_per_dim
from zoo.models.fvae import FVAE
from zoo.nets.flows import Flow
from zoo.nets.fvae import FVAEBackbone, Identity
from zoo.nets.glow import ImageFlow
from zoo.runs.build import build_model, check_output_range

SMALL = {"image_size": 4, "channels": 1, "squeezes": 1, "blocks": 1, "width": 8}
FLOW = {"levels": 2, "depth": 2, "width": 8, "squeeze_first": False}


def fvae(backbone: dict | None = None, flow: dict | None = FLOW, wild: float = 0.1, **options) -> FVAE:
    """A small f-VAE in float64, its zeros moved by `wild`."""
    torch.manual_seed(0)
    model = FVAE(backbone=FVAEBackbone(**SMALL | (backbone or {})), flow=flow and partial(ImageFlow, **FLOW | flow), **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += wild * torch.randn_like(parameter)
    return model


def drawn(model: FVAE, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The dequantised images and the u of `losses`."""
    model.set_batch_rng(KEY, 0, len(batch.image), len(batch.image))
    return batch.image + 2 / 255 * model.uniform(*batch.image.shape), model.normal(len(batch.image), *model.code_shape)


@pytest.mark.parametrize("options", [{}, {"floor": 0.3}, {"sigma1": 0.2, "sigma2": 0.3}, {"sigma1": "image"}])
def test_the_loss_is_the_negative_bound(options):
    """-log p(x|z) - log p(z) + log q(z|x), with q(z|x) = q(u) / |det ∂z/∂u|, image by image."""
    model = fvae(**options)
    batch = images(model)
    image, noise = drawn(model, batch)
    unit, distortion, rate = Normal(0.0, 1.0), [], []
    for x, u in zip(image, noise, strict=True):
        centre = model.encoder(x[None])
        spread = model.log_sigma1.exp() if model.scales is None else (model.log_sigma1 + model.scales(centre)).exp()
        of_u = lambda u: model.flow(centre + spread * u[None])[0][0]  # noqa: B023, E731
        volume = torch.linalg.slogdet(torch.autograd.functional.jacobian(of_u, u, create_graph=True).reshape(16, 16)).logabsdet
        scale = model.floor + model.log_excess.exp()
        distortion.append(-Normal(model.decoder(centre + spread * u), scale).log_prob(x).sum())
        rate.append(unit.log_prob(u).sum() - volume - unit.log_prob(of_u(u)).sum())
    distortion, rate = torch.stack(distortion).mean(), torch.stack(rate).mean()
    found = losses(model, batch)
    torch.testing.assert_close(found["distortion"], distortion, rtol=1e-10, atol=0)
    torch.testing.assert_close(found["rate"], rate, rtol=1e-10, atol=0)
    torch.testing.assert_close(found["loss"], distortion + rate, rtol=1e-10, atol=0)
    torch.testing.assert_close(found["bits_per_dim"], bits_per_dim(-found["elbo"], 16), rtol=1e-10, atol=0)
    trained = [p for p in model.parameters() if p.requires_grad]
    for ours, theirs in zip(*(torch.autograd.grad(loss, trained) for loss in (found["loss"], distortion + rate)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


def test_case_1_is_the_elbo_of_a_vae():
    model = fvae(flow=None, sigma1="image", sigma2=0.3)
    model.decoder = nn.PixelShuffle(2)  # linear, so that the expected squared error is known
    image = images(model, 2).image
    mean, log_scale = model.posterior(image)
    posterior = Normal(mean, log_scale.exp())
    assert posterior.scale.std() > 0.01
    squared = (image - model.decoder(mean)).square().sum((1, 2, 3)) + posterior.variance.sum((1, 2, 3))
    distortion = squared / (2 * 0.3**2) + 16 * math.log(0.3 * math.sqrt(2 * math.pi))
    elbo = -distortion - kl_divergence(posterior, Normal(0.0, 1.0)).sum((1, 2, 3))
    weights = model.log_weights(image, 4000)
    assert ((weights.mean(1) - elbo).abs() < 4 * weights.std(1) / math.sqrt(4000)).all()


def test_case_2_is_the_likelihood_of_a_flow_at_noisy_images():
    backbone = {"squeezes": 0, "output": "linear", "channels": 3}
    model = fvae(backbone, {"squeeze_first": True}, sigma1=0.1, sigma2=0.1)
    batch = images(model)
    image, u = drawn(model, batch)
    z, log_det = model.flow(image + model.log_sigma1.exp() * u)
    exact = -(Normal(0.0, 1.0).log_prob(z).sum(1) + log_det).mean()
    torch.testing.assert_close(losses(model, batch)["loss"], exact, rtol=1e-10, atol=0)
    assert list(model.param_groups()) == ["autoencoder"]


def configured(*overrides: str) -> FVAE:
    with initialize_config_dir(str(conf_dir()), version_base=None):
        config = compose("train", ["model=fvae", "data.image_size=16", *overrides])
    return build_model(check(config).model)


def test_both_cases_are_settings():
    vae = configured("model.flow=null", "model.sigma1=image")
    assert isinstance(vae.flow, Identity)
    assert vae.posterior(torch.zeros(2, 3, 16, 16))[1].shape == (2, 48, 4, 4)
    settings = ["model.backbone.squeezes=0", "model.backbone.output=linear", "model.flow.squeeze_first=true"]
    flow = configured(*settings, "model.sigma1=0.05", "model.sigma2=0.05")
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(flow.encoder(x), x)
    assert torch.equal(flow.decoder(x), x)
    assert flow.log_sigma1 == flow.log_sigma2()


class Fixed(nn.Module):
    """A decoder that knows the image."""

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self.image = image

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return self.image


@pytest.mark.parametrize(("floor", "expected", "tolerance"), [(0.0, 0.05, 0.05), (0.1, 0.1, 0.1)])
def test_sigma2_becomes_the_standard_deviation_of_the_noise_or_its_floor(floor, expected, tolerance):
    model = fvae({"image_size": 16}, flow=None, floor=floor, dequantise=False)
    clean = images(model, 8).image
    model.decoder = Fixed(clean)
    optimizer = torch.optim.Adam([model.log_excess], lr=0.05)
    generator = torch.Generator().manual_seed(5)
    for _ in range(200):
        noisy = clean + 0.05 * torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
        optimizer.zero_grad()
        found = losses(model, Batch(noisy, clean, clean))
        found["loss"].backward()
        optimizer.step()
    assert "bits_per_dim" not in found
    assert abs(found["sigma2"] / expected - 1) < tolerance
    assert found["sigma2"] >= floor


class Scaled(Flow):
    """z = v / a: the prior of v is N(0, a²)."""

    def __init__(self, shape: tuple[int, int, int], a: float) -> None:
        super().__init__()
        self.shape, self.a = shape, a

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.flatten(1) / self.a, x.new_full((len(x),), -x[0].numel() * math.log(self.a))

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        return (z * self.a).unflatten(1, self.shape)


def linear(a: float, sigma1: float, sigma2: float, gain: float) -> tuple[FVAE, torch.Tensor, torch.Tensor]:
    """x = v + σ₂ noise, v ~ N(0, a²): a model whose likelihood N(0, a² + σ₂²) is known, images, and their log p(x)."""
    model = FVAE(
        backbone=FVAEBackbone(4, 1, squeezes=1, blocks=0, output="linear"), flow=partial(Scaled, a=a), sigma1=sigma1, sigma2=sigma2
    ).double()
    model.encoder = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 1, bias=False)).double()
    model.encoder[1].weight.data.copy_(gain * torch.eye(4)[:, :, None, None])
    image = images(model, 6).image
    return model, image, Normal(0.0, math.hypot(a, sigma2)).log_prob(image).sum((1, 2, 3))


def test_the_bound_is_tight_at_the_true_posterior():
    a, sigma2 = 0.8, 0.3
    gain = a**2 / (a**2 + sigma2**2)
    model, image, exact = linear(a, sigma2 * math.sqrt(gain), sigma2, gain)
    torch.testing.assert_close(model.log_weights(image, 3), exact[:, None].expand(-1, 3), rtol=1e-6, atol=0)  # scales are float32


def test_the_bound_lies_below_the_likelihood_and_more_draws_bring_it_nearer():
    model, image, exact = linear(0.8, 0.15, 0.3, 0.95)
    torch.manual_seed(0)
    weights = torch.cat([model.log_weights(image, 4096) for _ in range(4)], 1)  # (6, 16384)
    bounds, errors = [], []
    for draws in (1, 8, 64, 512):
        groups = torch.logsumexp(weights.view(6, -1, draws), 2) - math.log(draws)  # (6, G)
        bounds.append((exact - groups.mean(1)).mean())
        errors.append(groups.std() / math.sqrt(groups.numel()))
    assert bounds == sorted(bounds, reverse=True)
    assert all(gap > -4 * error for gap, error in zip(bounds, errors, strict=True))
    assert bounds[0] > 2
    assert bounds[-1] < 0.5 * bounds[0]


def test_codes_reconstructions_and_samples():
    model = fvae(temperature=0.7, sigma1=0.5).float()
    x = images(model).image
    with torch.no_grad():
        code = model.encode(x)
        assert code.shape == (4, model.latent_dim) == (4, 16)
        half = 1 / 255  # training sees x + U(0, 2/255), so codes are those of its middle, and its middle is taken away in the end
        torch.testing.assert_close(code, model.flow(model.encoder(x + half))[0])
        torch.testing.assert_close(model.reconstruct(x), model.decoder(model.encoder(x + half)) - half, rtol=0, atol=1e-5)
        samples = model.sample(3, torch.Generator().manual_seed(2))
        noise = torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
        torch.testing.assert_close(samples, model.decoder(model.flow.inverse(0.7 * noise)) - half)
        line = model.interpolate(code[:1], code[1:2], 3)
        torch.testing.assert_close(line[:, 1], model.decode((code[:1] + code[1:2]) / 2))
        model.set_batch_rng(KEY, 0, 4, 4)
        u = model.normal(4, *model.code_shape)
        model.set_batch_rng(KEY, 0, 4, 4)
        torch.testing.assert_close(model.latents_for_prior(x), model.flow(model.encoder(x) + 0.5 * u)[0])


@pytest.mark.parametrize("options", [{}, {"backbone": {"norm": "group", "width": 16}, "sigma1": "image", "floor": 0.1}])
def test_every_parameter_has_a_gradient(options):
    model = fvae(**options)
    losses(model, images(model))["loss"].backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad.abs().max() > 0 for parameter in trained)
    assert sorted(map(id, trained)) == sorted(id(p) for group_name in model.param_groups().values() for p in group_name)


def test_scales_start_where_they_are_told_and_learn_at_their_own_rate():
    model = fvae(wild=0.0, start=0.5, floor=0.2, scale_lr=0.03)
    found = losses(model, images(model))
    torch.testing.assert_close(torch.stack([found["sigma1"], found["sigma2"]]), torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert model.group_options["scale"] == {"lr": 0.03}
    assert model.param_groups()["scale"] == [model.log_sigma1, model.log_excess]
    assert fvae(sigma1=0.1).param_groups()["scale"][0].shape == ()


def test_the_first_images_set_the_flow_whatever_was_drawn_before():
    states = []
    for seed in (1, 2):
        model = fvae(wild=0.0)
        torch.manual_seed(seed)
        model.set_batch_rng((seed,), 2, 4, 8)  # as validation leaves it
        model.initialize(images(model, 64))
        states.append(model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert states[0]["flow.last.initialized"]


def test_two_halves_of_a_batch_are_the_whole():
    model = fvae()
    batch = images(model, 6)
    halves = [losses(model, Batch(*(part[rows : rows + 3] for part in batch)), rows, 6) for rows in (0, 3)]
    whole = losses(model, batch)
    for name in ("loss", "distortion", "rate"):
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, whole[name], rtol=1e-12, atol=0)


def test_the_bound_is_float32_under_autocast():
    model = fvae({"image_size": 8}).float()
    batch = images(model, 16)
    model.initialize(batch)
    plain, v = losses(model, batch), model.posterior(batch.image)[0]
    with torch.autocast("cpu", torch.bfloat16):
        mixed, log_det = losses(model, batch), model.flow(v)[1]
    torch.testing.assert_close(log_det, model.flow(v)[1], rtol=1e-3, atol=0)
    torch.testing.assert_close(mixed["loss"], plain["loss"], rtol=1e-2, atol=0)
    assert all(value.dtype == torch.float32 for value in mixed.values())


def test_the_loss_compiles_to_one_graph():
    model = fvae(flow={"levels": 1, "depth": 1}, floor=0.1)
    batch, compiled = images(model), torch.compile(model.losses, fullgraph=True, backend="aot_eager")
    model.set_batch_rng(KEY, 0, 4, 4)
    torch.testing.assert_close(compiled(batch)["loss"], losses(model, batch)["loss"], rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda model: model.encoder[0][1].branch[0].bias, "the encoder's output"),
        (lambda model: model.log_sigma1, "the scales σ₁ and σ₂"),
        (lambda model: model.log_excess, "the scales σ₁ and σ₂"),
        (lambda model: model.flow.levels[0].steps[1].coupling.net[-1].bias, "the flow, level 1, step 2 of 2, coupling"),
        (lambda model: model.decoder[0][0].branch[-1].bias, "the decoder's output"),
    ],
)
def test_locate_nonfinite_names_the_part(broken, reason):
    model = fvae()
    assert model.locate_nonfinite(images(model)) == ""
    broken(model).data.fill_(math.nan)
    assert model.locate_nonfinite(images(model)) == reason


def test_it_learns_sixteen_images():
    torch.manual_seed(0)
    model = FVAE(backbone=FVAEBackbone(8, 1, squeezes=1, blocks=2, width=16), flow=partial(ImageFlow, **FLOW | {"width": 16}))
    groups = [{"params": p, "lr": 0.05 if name == "scale" else 5e-3} for name, p in model.param_groups().items()]
    smooth, bits = learn_sixteen_images(model, groups, 150)
    assert bits[-1] < bits[0] - 2.5
    assert (model.reconstruct(smooth) - smooth).square().mean() < 0.05 * smooth.var()


def test_a_fresh_decoder_reaches_dark_pixels():
    """As a check at the start of training asks of it."""
    model = fvae(wild=0.0)
    assert darkest(model) < -0.5
    check_output_range(model.float())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sigma1": "pixel"}, r"model\.sigma1 is 'pixel'; it must be 'learned' or 'image' or a positive"),
        ({"sigma1": 0}, r"model\.sigma1 is 0"),
        ({"sigma2": "image"}, r"model\.sigma2 is 'image'; it must be 'learned' or a positive"),
        ({"sigma2": -1.0}, r"model\.sigma2 is -1"),
        ({"floor": 1.0}, r"model\.floor=1\.0 must be at least 0 and below model\.start=1\.0"),
        ({"floor": -0.1}, r"model\.floor=-0\.1"),
        ({"temperature": -1}, "temperature"),
        ({"flow": {"levels": 4}}, r"model\.flow\.levels"),
    ],
)
def test_bad_settings_are_refused(options, sentence):
    with pytest.raises(ZooError, match=sentence):
        fvae(**options)
