import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.models.ae import AE
from zoo.models.vae import VAE
from zoo.nets.conv import ConvBackbone
from zoo.runs.build import check_output_range

BACKBONE = {"image_size": 32, "channels": 1, "width": 16, "max_width": 32}


def images(count: int = 4, dtype: torch.dtype = torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(count, 1, 32, 32, generator=generator, dtype=dtype) * 2 - 1
    return Batch(image, torch.zeros(count, 0), torch.arange(count))


def vae(**options) -> VAE:
    torch.manual_seed(0)
    return VAE(backbone=ConvBackbone(**BACKBONE), latent_dim=3, **options).double()


def written_out(model: VAE, batch: Batch, noise: torch.Tensor) -> dict[str, torch.Tensor]:
    """The loss as the paper has it, from torch's distributions."""
    mean, log_variance = model.encoder(batch.image).chunk(2, 1)
    posterior = Normal(mean, (log_variance / 2).exp())
    decoded = model.decoder(mean + posterior.scale * noise)
    log_likelihood = Normal(decoded, model.log_gamma.exp()).log_prob(batch.image).flatten(1).sum(1).mean()
    kl = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1).mean()
    return {"distortion": -log_likelihood, "rate": kl}


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_loss_and_gradient_equal_the_written_objective(beta):
    model, batch = vae(beta=beta, gamma="learned"), images()
    model.initialize(batch)
    torch.manual_seed(5)
    noise = torch.randn(4, 3, dtype=torch.float32).double()
    model.normal = lambda *shape: noise
    losses = model.losses(batch)
    expected = written_out(model, batch, noise)
    total = expected["distortion"] + beta * expected["rate"]
    torch.testing.assert_close(losses["loss"], total, rtol=1e-12, atol=0)
    torch.testing.assert_close(losses["elbo"], -expected["distortion"] - expected["rate"], rtol=1e-12, atol=0)
    trained = [p for p in model.parameters() if p.requires_grad]
    for ours, theirs in zip(torch.autograd.grad(losses["loss"], trained), torch.autograd.grad(total, trained), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_gamma_starts_at_the_datas_standard_deviation_and_is_a_group_of_its_own():
    model, batch = vae(), images()
    model.initialize(batch)
    assert math.isclose(model.log_gamma.exp().item(), batch.image.std().item(), rel_tol=1e-9)
    assert model.param_groups()["scale"] == [model.log_gamma]
    assert list(vae(gamma=0.1).param_groups()) == ["autoencoder"]
    assert not vae(gamma=0.1).log_gamma.requires_grad


def test_a_fixed_gamma_is_a_standard_deviation():
    model, batch = vae(gamma=0.1), images()
    model.normal = lambda *shape: torch.zeros(shape, dtype=torch.float64)
    error = (batch.image - model.reconstruct(batch.image)).square().sum() / 4
    expected = error / (2 * 0.01) + 1024 * (math.log(0.1) + math.log(2 * math.pi) / 2)
    torch.testing.assert_close(model.losses(batch)["distortion"], expected, rtol=1e-6, atol=0)


def test_kl_warmup_follows_the_clock_of_images():
    model, batch = vae(gamma=1.0, beta=2.0, kl_warmup=1000), images()
    model.normal = lambda *shape: torch.zeros(shape, dtype=torch.float64)
    for seen, weight in ((0, 0.0), (250, 0.5), (1000, 2.0), (10_000, 2.0)):
        model.images_seen.fill_(seen)
        losses = model.losses(batch)
        torch.testing.assert_close(losses["loss"], losses["distortion"] + weight * losses["rate"])


def test_codes_are_deterministic_and_reconstruction_decodes_them():
    model, batch = vae(), images()
    assert torch.equal(model.encode(batch.image), model.encode(batch.image))
    assert torch.equal(model.reconstruct(batch.image), model.decode(model.encode(batch.image)))
    assert not torch.equal(model.latents_for_prior(batch.image), model.encode(batch.image))


def test_interpolation_starts_and_ends_at_its_codes():
    model = vae()
    a, b = torch.randn(2, 2, 3, dtype=torch.float64)
    line = model.interpolate(a, b, 5)
    assert line.shape == (2, 5, 1, 32, 32)
    torch.testing.assert_close(line[:, 0], model.decode(a))
    torch.testing.assert_close(line[:, 2], model.decode((a + b) / 2))
    torch.testing.assert_close(line[:, 4], model.decode(b))


def test_ae_loss_and_gradient_equal_the_written_objective():
    torch.manual_seed(0)
    model, batch = AE(backbone=ConvBackbone(**BACKBONE), latent_dim=3).double(), images()
    loss = model.losses(batch)["loss"]
    expected = ((batch.image - model.decoder(model.encoder(batch.image))) ** 2).sum() / (4 * 1024)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(loss, [*model.parameters()]), torch.autograd.grad(expected, [*model.parameters()]), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", [AE, VAE])
def test_overfits_sixteen_images(method):
    torch.manual_seed(0)
    model = method(backbone=ConvBackbone(**BACKBONE), latent_dim=16)
    smooth = torch.nn.functional.interpolate(torch.rand(16, 1, 4, 4) * 2 - 1, size=32, mode="bicubic").clamp(-1, 1)
    batch = Batch(smooth, torch.zeros(16, 0), torch.arange(16))
    model.initialize(batch)
    groups = [{"params": p, "lr": 0.02 if name == "scale" else 3e-3} for name, p in model.param_groups().items()]
    optimizer = torch.optim.Adam(groups)
    for _ in range(250):
        optimizer.zero_grad()
        model.losses(batch)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        error = (model.reconstruct(smooth) - smooth).square().mean()
    assert error < 0.05 * smooth.var()


@pytest.mark.parametrize("gamma", [0.0, -1, "small"])
def test_a_bad_gamma_is_refused(gamma):
    with pytest.raises(ZooError, match="gamma"):
        vae(gamma=gamma)


def test_a_decoder_that_ends_in_a_sigmoid_is_refused():
    for seed in range(20):  # whatever the first weights are
        torch.manual_seed(seed)
        check_output_range(AE(backbone=ConvBackbone(128, 1, width=16, max_width=32), latent_dim=3))
    model = vae().float()
    check_output_range(model)
    model.decoder.append(torch.nn.Sigmoid())
    with pytest.raises(ZooError, match="sigmoid"):
        check_output_range(model)
