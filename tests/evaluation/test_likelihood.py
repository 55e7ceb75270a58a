import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from zoo.losses import bits_per_dim
from zoo.models.vae import VAE

DIM, LATENT, GAMMA = 12, 3, 0.3


def linear_gaussian() -> tuple[VAE, torch.Tensor]:
    """A VAE whose decoder is linear and whose encoder is its exact posterior; its p(x) is N(0, W Wᵀ + γ² I). W has orthogonal columns."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.linalg.qr(torch.randn(DIM, LATENT, generator=generator, dtype=torch.float64)).Q * torch.tensor([1.0, 0.5, 0.2])
    variance = 1 / (1 + weight.square().sum(0) / GAMMA**2)  # of the posterior, diagonal
    encoder, decoder = nn.Linear(DIM, 2 * LATENT).double(), nn.Linear(LATENT, DIM, bias=False).double()
    encoder.weight.data = torch.cat([variance[:, None] * weight.T / GAMMA**2, torch.zeros(LATENT, DIM, dtype=torch.float64)])
    encoder.bias.data = torch.cat([torch.zeros(LATENT, dtype=torch.float64), variance.log()])
    decoder.weight.data = weight
    backbone = SimpleNamespace(
        image_shape=(1, 3, 4),
        encoder=lambda outputs: nn.Sequential(nn.Flatten(), encoder),
        decoder=lambda inputs: nn.Sequential(decoder, nn.Unflatten(1, (1, 3, 4))),
    )
    return VAE(backbone=backbone, latent_dim=LATENT, gamma=GAMMA).double(), weight


def test_with_the_exact_posterior_every_log_weight_is_the_log_likelihood():
    model, weight = linear_gaussian()
    image = torch.randn(5, 1, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    covariance = weight @ weight.T + GAMMA**2 * torch.eye(DIM, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(torch.zeros(DIM, dtype=torch.float64), covariance).log_prob(image.flatten(1))
    with torch.no_grad():
        weights = model.log_weights(image, 7)
    assert weights.shape == (5, 7)
    torch.testing.assert_close(weights, exact[:, None].expand(5, 7), rtol=0, atol=1e-5)


def test_a_wrong_posterior_gives_a_looser_bound_that_importance_weighting_tightens():
    model, weight = linear_gaussian()
    model.encoder[1].bias.data[:LATENT] += 0.3
    image = torch.randn(200, 1, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    covariance = weight @ weight.T + GAMMA**2 * torch.eye(DIM, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(torch.zeros(DIM, dtype=torch.float64), covariance).log_prob(image.flatten(1)).mean()
    torch.manual_seed(0)
    with torch.no_grad():
        weights = model.log_weights(image, 2048)
    elbo, tight = weights.mean(), (torch.logsumexp(weights, 1) - math.log(2048)).mean()
    assert elbo < tight < exact + 0.05
    assert tight - elbo > 0.8 * (exact - elbo)


def test_the_mean_of_log_weights_is_the_elbo_of_the_training_loss():
    model, _ = linear_gaussian()
    model.encoder[1].bias.data += 0.2
    image = torch.randn(4, 1, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.manual_seed(0)
    with torch.no_grad():
        weights = model.log_weights(image, 20_000).mean()
        elbo = torch.stack([model.losses(SimpleNamespace(image=image))["elbo"] for _ in range(5_000)]).mean()
    assert weights.item() == pytest.approx(elbo.item(), abs=0.03)


def test_uniform_noise_over_all_grey_levels_costs_eight_bits():
    """256 cells of width 2/255: the density of the uniform distribution over them is (255/512)^D."""
    log_density = torch.tensor([12 * math.log(255 / 512)], dtype=torch.float64)
    assert bits_per_dim(-log_density, 12).item() == pytest.approx(8, abs=1e-12)


def test_a_gaussian_of_known_scale_costs_its_entropy():
    """A decoder N(x̂, γ²) around the truth: -log₂ of the density of a cell, as the differential entropy says."""
    gamma, dimensions = 0.1, 1000
    noise = gamma * torch.randn(200, dimensions, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_density = torch.distributions.Normal(0, gamma).log_prob(noise).sum(1)
    entropy = 0.5 * math.log2(2 * math.pi * math.e * gamma**2) - math.log2(2 / 255)
    assert bits_per_dim(-log_density, dimensions).mean().item() == pytest.approx(entropy, abs=0.01)


def test_the_bits_of_padding_are_shared_out_among_the_original_values():
    density = torch.tensor([-3.0])
    bits = -density / math.log(2) + 1024 * math.log2(127.5)  # of the whole image
    torch.testing.assert_close(bits_per_dim(-density, 1024, originals=784), bits / 784)
    torch.testing.assert_close(bits_per_dim(-density, 1024), bits / 1024)
