import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from zoo.errors import ZooError
from zoo.priors import Gaussian, Mixture, StandardNormal


def correlated(count: int, seed: int = 0) -> tuple[torch.Tensor, MultivariateNormal]:
    generator = torch.Generator().manual_seed(seed)
    tril = torch.tensor([[2.0, 0, 0], [0.5, 0.3, 0], [-1, 0.2, 1.5]])
    truth = MultivariateNormal(torch.tensor([3.0, -1, 0]), scale_tril=tril)
    return truth.loc + torch.randn(count, 3, generator=generator) @ tril.T, truth


def test_standard_normal_log_prob():
    z = torch.randn(5, 3)
    torch.testing.assert_close(StandardNormal(3).log_prob(z), MultivariateNormal(torch.zeros(3), torch.eye(3)).log_prob(z))


def test_an_unfitted_prior_is_the_standard_normal():
    z = torch.randn(5, 3)
    for prior in (Gaussian(3), Mixture(3, 4)):
        torch.testing.assert_close(prior.log_prob(z), StandardNormal(3).log_prob(z))


def test_gaussian_recovers_mean_covariance_and_density():
    latents, truth = correlated(100_000)
    prior = Gaussian(3)
    prior.fit(latents)
    torch.testing.assert_close(prior.mean, truth.loc, atol=0.03, rtol=0)
    torch.testing.assert_close(prior.scale_tril @ prior.scale_tril.T, truth.covariance_matrix, atol=0.08, rtol=0)
    exact = MultivariateNormal(prior.mean, scale_tril=prior.scale_tril)
    torch.testing.assert_close(prior.log_prob(latents[:100]), exact.log_prob(latents[:100]), atol=1e-4, rtol=1e-5)
    drawn = prior.sample(100_000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn.T.cov(), truth.covariance_matrix, atol=0.1, rtol=0)


def test_mixture_finds_two_clusters_and_its_density_is_torchs():
    torch.manual_seed(0)
    latents = torch.cat([torch.randn(3000, 2) * 0.1 + 5, torch.randn(1000, 2) * 0.2 - 5])
    prior = Mixture(2, components=2)
    prior.fit(latents)
    torch.testing.assert_close(prior.weights.sort().values, torch.tensor([0.25, 0.75]), atol=1e-3, rtol=0)
    exact = MixtureSameFamily(Categorical(prior.weights), MultivariateNormal(prior.means, scale_tril=prior.scale_trils))
    torch.testing.assert_close(prior.log_prob(latents), exact.log_prob(latents), atol=1e-3, rtol=1e-4)
    drawn = prior.sample(4000, torch.Generator().manual_seed(0))
    assert abs((drawn[:, 0] > 0).float().mean() - 0.75) < 0.03
    assert prior.log_prob(latents).mean() > Gaussian(2).log_prob(latents).mean()


@pytest.mark.parametrize("prior", [StandardNormal(3), Gaussian(3), Mixture(3)])
def test_sampling_is_fixed_by_its_generator(prior):
    draws = [prior.sample(5, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*draws)
    assert draws[0].shape == (5, 3)


def test_what_was_fitted_travels_in_the_state_dict():
    latents, _ = correlated(500)
    fitted, fresh = Mixture(3, 2), Mixture(3, 2)
    fitted.fit(latents)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fitted.log_prob(latents), fresh.log_prob(latents))


def test_a_constant_dimension_and_few_latents_do_not_break_the_gaussian():
    latents = torch.randn(5, 16)
    latents[:, 3] = 2.0
    prior = Gaussian(16)
    prior.fit(latents)
    assert prior.sample(10).isfinite().all()
    assert (prior.sample(10)[:, 3] - 2).abs().max() < 0.05


@pytest.mark.parametrize("latents", [torch.randn(10, 4), torch.randn(1, 3), torch.full((10, 3), torch.nan)])
def test_latents_that_cannot_be_fitted_are_refused(latents):
    with pytest.raises(ZooError, match="cannot be fitted"):
        Gaussian(3).fit(latents)


def test_a_mixture_needs_as_many_latents_as_components():
    with pytest.raises(ZooError, match="at least 10"):
        Mixture(3, 10).fit(torch.randn(5, 3))
